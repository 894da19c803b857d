#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The budgets against the real binary over real sockets: bench/run.py [MEASURE…]. Prints a table and, when all measures
ran, writes bench/budget.csv. Rates are per second of the server's own CPU time, user and system, from exec to exit: log,
memtable and every block included. $BENCH_SPANS (default 2,000,000), $BENCH_MINUTES (default 5), $BENCH_SECONDS (default 10)
and $BENCH_REQUESTS (default 6,000) size the loads."""
import csv
import datetime
import gzip
import http.client
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import lib  # noqa: E402

SPANS = int(os.environ.get("BENCH_SPANS", 2_000_000))
MINUTES = float(os.environ.get("BENCH_MINUTES", 5))
SECONDS = float(os.environ.get("BENCH_SECONDS", 10))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", 6_000))
WORK = os.path.join(lib.ROOT, "build", "bench")
ROWS = []
MEASURES = []


def measure(fn):
    MEASURES.append(fn)
    return fn


def row(name, value, budget, unit, better):
    ok = value >= budget if better == "more" else value <= budget
    ROWS.append((name, value, budget, unit, "yes" if ok else "NO"))
    print(f"{name:<44} {value:>14,.2f} {unit:<16} budget {budget:>12,.2f}  {'ok' if ok else 'MISSED'}", flush=True)


class Run(lib.Server):
    """A server whose CPU time and peak memory are known when it has ended."""

    def finish(self):
        self.process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        lib.equal(self.process.returncode, 0, "exit code")
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024

    def cpu_of(self, name=""):
        """CPU seconds of each thread whose name contains this."""
        out = {}
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/comm") as f:
                comm = f.read().strip()
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as f:
                ns = int(f.read().split()[0])
            if name in comm:
                out[task] = ns / 1e9
        return out

    def ask(self, path, params=None, want=200, times=1):
        """The answer over a kept connection, and (wall ms, server's CPU ms) of the last of `times`."""
        if not hasattr(self, "client"):
            self.client = http.client.HTTPConnection("127.0.0.1", self.port("query"), timeout=60)
        target = path + ("?" + urllib.parse.urlencode(params) if params else "")
        for _ in range(times):
            before, begun = sum(self.cpu_of().values()), time.monotonic()
            self.client.request("GET", target)
            answer = self.client.getresponse()
            body = answer.read()
            wall = (time.monotonic() - begun) * 1000
            cpu = (sum(self.cpu_of().values()) - before) * 1000
            lib.equal(answer.status, want, target)
        return json.loads(body), (wall, cpu)

    def settle(self):
        """Until nothing has been merged for a while."""
        last, since = None, time.monotonic()
        while time.monotonic() - since < 15:
            m = self.metrics()
            now = (m["lymer_compactions_total"], m["lymer_blocks"])
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.5)

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) * 1024


def load(*flags):
    done = lib.run(lib.LYMER, "load", "--profile", "shop", "--seed", "1", *flags, timeout=1200)
    return json.loads(done.stdout.decode().strip().splitlines()[-1])


def traces(spans):
    return str(max(spans // 31, 1))


def fresh():
    os.makedirs(WORK, exist_ok=True)
    return tempfile.mkdtemp(dir=WORK)


def tree_bytes(path):
    return sum(os.stat(os.path.join(d, f)).st_blocks * 512 for d, _, files in os.walk(path) for f in files)


def ingest(name, endpoint, budget, *flags):
    data = fresh()
    try:
        with Run(data=data) as server:
            said = load("--endpoint", endpoint(server), "--traces", traces(SPANS), "--workers", "2", *flags)
            lib.equal(said["spans_accepted"], said["spans_sent"], "accepted")
            cpu, peak = server.finish()
        row(name, said["spans_accepted"] / cpu, budget, "spans/CPU s", "more")
        blocks = os.path.join(data, "blocks")
        return said, tree_bytes(blocks) / said["spans_accepted"], peak
    finally:
        shutil.rmtree(data)


@measure
def grpc():
    said, size, peak = ingest("OTLP/gRPC, logged, blocks built", lambda s: f"grpc://127.0.0.1:{s.port('grpc')}", 700_000)
    print(f"  {said['spans_sent']:,} spans of {said['bytes'] / said['spans_sent']:.0f} bytes on the wire, peak {peak / 1e6:.0f} MB")
    row("blocks, before compaction", size, 35, "bytes/span", "less")


@measure
def http_gzip():
    ingest("OTLP/HTTP, gzip", lambda s: f"http://127.0.0.1:{s.port('otlp')}/v1/traces", 500_000, "--compression", "gzip")


@measure
def decode():
    done = lib.run(os.path.join(lib.ROOT, "build", "release", "bench_decode"))
    values = dict(line.split()[:2] for line in done.stdout.decode().splitlines() if line)
    row("decode alone", float(values["decode_ns_per_span"]), 160, "ns/span", "less")


@measure
def start():
    best = None
    for _ in range(10):
        data = fresh()
        offset = lib.free_offset()
        begun = time.monotonic()
        with Run(data=data, offset=offset, wait=False) as server:
            server.wait_ready()
            took = (time.monotonic() - begun) * 1000
            server.finish()
        shutil.rmtree(data)
        best = min(best or took, took)
    row("cold start, empty store (best of 10)", best, 50, "ms", "less")


def die_under_load(data, seconds):
    """Takes spans as fast as they come for so long, then kill -9. Returns a trace that was acknowledged just before."""
    with Run(data=data) as server:
        command = [lib.LYMER, "load", "--profile", "shop", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", "--workers", "2",
                   "--traces", traces(10**9)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as sender:
            try:
                begun = time.monotonic()
                lib.until(lambda: time.monotonic() - begun > seconds, seconds + 10, "the load")
                trace, message = lib.otlp("restart", 100)
                lib.until(lambda: lib.send(server, message)[0] == 200, what="acknowledgement")
                rate = server.metrics()["lymer_spans_accepted_total"] / (time.monotonic() - begun)
                server.kill()
            finally:
                sender.kill()
    return trace, rate


@measure
def restart():
    """From exec until the port answers and until the first question has its answer; what the log holds is read in between."""
    data, lives, worst = fresh(), 5, {"port": 0, "wall": 0, "CPU": 0}
    for life in range(lives):
        trace, rate = die_under_load(data, SECONDS * (0.8 + 0.1 * life))  # the log is never as full as the time before
        log = tree_bytes(os.path.join(data, "wal"))
        begun = time.monotonic()
        with Run(data=data, wait=False) as server:
            def connects():
                with socket.socket() as s:
                    return s.connect_ex(("127.0.0.1", server.port("query"))) == 0
            lib.until(connects, 60, "the port")
            now = {"port": (time.monotonic() - begun) * 1000}
            found, _ = server.ask(f"/api/traces/{trace}")
            now |= {"wall": (time.monotonic() - begun) * 1000, "CPU": sum(server.cpu_of().values()) * 1000}
            lib.equal(len(found["data"][0]["spans"]), 100, "the trace that was acknowledged just before")
            server.finish()
        print(f"  killed at {rate / 1000:.0f} k spans/s beside {log / 1e6:.0f} MB of log files: port {now['port']:.0f} ms, answer {now['wall']:.0f} ms, "
              f"CPU {now['CPU']:.0f} ms", flush=True)
        worst = {k: max(v, now[k]) for k, v in worst.items()}
    shutil.rmtree(data)
    row(f"kill -9 at full load, right answer (worst of {lives})", worst["wall"], 2000, "ms", "less")
    row("  its port answers", worst["port"], 2000, "ms", "less")
    row("  CPU until then", worst["CPU"], 2000, "ms", "less")


@measure
def memory():
    data = fresh()
    with Run(data=data) as server:
        lib.until(lambda: lib.get(server.url("/api/services")), what="first query")
        row("resident, idle", server.rss() / 1e6, 15, "MB", "less")
        rate = 10_000
        command = [lib.LYMER, "load", "--profile", "shop", "--seed", "1", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}",
                   "--rate", str(rate), "--traces", traces(int(rate * 60 * MINUTES))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
            peak = 0
            while sender.poll() is None:
                peak = max(peak, server.rss())
                time.sleep(0.25)
            said = json.loads(sender.stdout.read().decode().strip().splitlines()[-1])
        lib.equal(said["spans_accepted"], said["spans_sent"], "accepted")
        row(f"resident at {said['spans_per_s'] / 1000:.1f} k spans/s, {MINUTES:g} min", peak / 1e6, 150, "MB", "less")
        server.finish()
    shutil.rmtree(data)


class Big:
    """A data set of the store, kept between runs outside the tree ($LYMER_BENCH_CACHE): shop traces over one day, merged."""

    DAY_US = 86_400_000_000
    START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    FLAGS = ("--retention", "0", "--max-disk", "0")

    def __init__(self, spans):
        cache = os.environ.get("LYMER_BENCH_CACHE", os.path.expanduser("~/.cache/lymer-bench"))
        self.data = os.path.join(cache, f"shop-{spans}-block-2")
        self.spans = spans
        self.rng = random.Random(1)
        if not os.path.exists(self.data):
            self.make()
        with open(os.path.join(self.data, "made.json")) as f:
            self.made = json.load(f)

    def make(self):
        new = self.data + ".new"
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(new)
        with Run(*self.FLAGS, data=new) as server:
            said = load("--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", "--traces", traces(self.spans), "--workers", "2",
                        "--start", "2026-01-01T00:00:00Z", "--over", "24h")
            lib.equal(said["spans_accepted"], said["spans_sent"], "accepted")
            cpu, peak = server.finish()
        with Run(*self.FLAGS, data=new) as server:
            server.settle()
            merging, _ = server.finish()
        made = {"spans": said["spans_accepted"], "cpu_s": cpu + merging, "merging_s": merging, "peak": peak, "bytes": tree_bytes(os.path.join(new, "blocks")),
                "blocks": len(os.listdir(os.path.join(new, "blocks")))}
        with open(os.path.join(new, "made.json"), "w") as f:
            json.dump(made, f)
        os.rename(new, self.data)

    def evict(self):
        """Nothing of the blocks stays in the page cache."""
        for d, _, files in os.walk(self.data):
            for name in files:
                fd = os.open(os.path.join(d, name), os.O_RDONLY)
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def params(self, **more):
        return {"start": self.START_US, "end": self.START_US + self.DAY_US + 3_600_000_000, **more}

    def sample(self, server, n):
        """Traces from all over the day."""
        out = []
        while len(out) < n:
            at = self.START_US + self.rng.randrange(self.DAY_US)
            out += server.ask("/api/traces", self.params(service="gateway", limit=1, start=at, end=at + 600_000_000))[0]["data"]
        return out


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def timed(name, budget, calls):
    """p50 of the wall time as a client sees it; p99 and the server's CPU time beside it."""
    wall, cpu = [w for w, _ in calls], [c for _, c in calls]
    row(f"{name}, p50 of {len(calls)}", percentile(wall, 0.5), budget, "ms", "less")
    print(f"  p99 {percentile(wall, 0.99):.2f} ms, CPU p50 {percentile(cpu, 0.5):.2f} ms, p99 {percentile(cpu, 0.99):.2f} ms", flush=True)


def starts(big, label):
    best = None
    for _ in range(5):
        begun = time.monotonic()
        with Run(*big.FLAGS, data=big.data, offset=lib.free_offset(), wait=False) as server:
            server.wait_ready()
            best = min(best or 1e9, (time.monotonic() - begun) * 1000)
            server.finish()
    row(f"start on {label} spans (best of 5)", best, 50, "ms", "less")


def reads(big, label):
    with Run(*big.FLAGS, data=big.data) as server:
        ids = [t["traceID"] for t in big.sample(server, 100)]
        timed(f"trace by id, {label}, hot", 1, [server.ask("/api/traces/" + i, times=2)[1] for i in ids])
        timed(f"unknown trace id, {label}", 1, [server.ask("/api/traces/" + os.urandom(16).hex(), want=404)[1] for _ in range(100)])
        timed(f"services, {label}", 1, [server.ask("/api/services")[1] for _ in range(50)])
        timed(f"operations, {label}", 1, [server.ask("/api/operations", {"service": "gateway"})[1] for _ in range(50)])
        cold = []
        for i in ids[:30]:
            big.evict()
            cold.append(server.ask("/api/traces/" + i)[1])
        timed(f"trace by id, {label}, cold", 5, cold)
        server.finish()


def rare_tag(trace):
    """A value that only this trace has, its key, service and operation."""
    for span in trace["spans"]:
        for tag in span["tags"]:
            if re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", str(tag["value"])):
                return tag["key"], tag["value"], trace["processes"][span["processID"]]["serviceName"], span["operationName"]
    raise lib.Failed("no rare value")


def searches(big, label):
    with Run(*big.FLAGS, data=big.data) as server:
        rare, absent, slowest = [], [], []
        for trace in big.sample(server, 50):
            key, value, service, operation = rare_tag(trace)
            ask = big.params(service=service, operation=operation, limit=20)
            found, cost = server.ask("/api/traces", {**ask, "tags": json.dumps({key: value})})
            lib.equal([t["traceID"] for t in found["data"]], [trace["traceID"]], "rare value")
            rare.append(cost)
            found, cost = server.ask("/api/traces", {**ask, "tags": json.dumps({key: str(uuid.UUID(bytes=os.urandom(16), version=4))})})
            lib.equal(found["data"], [], "absent value")
            absent.append(cost)
        timed(f"search, rare value, {label}", 30, rare)
        timed(f"search, absent value, {label}", 2, absent)
        for service in ("gateway", "cart", "payment", "email", "ad") * 4:
            found, cost = server.ask("/api/traces", big.params(service=service, order="slowest", limit=20))
            lib.equal(len(found["data"]), 20, "slowest")
            slowest.append(cost)
        timed(f"20 slowest of a service over 24 h, {label}", 50, slowest)
        server.finish()


@measure
def ten_million():
    big = Big(10_000_000)
    row("blocks, merged, 10 M", big.made["bytes"] / big.made["spans"], 35, "bytes/span", "less")
    print(f"  {big.made['blocks']} blocks; made with {big.made['spans'] / big.made['cpu_s']:,.0f} spans per CPU second, all merged, peak {big.made['peak'] / 1e6:.0f} MB")
    searches(big, "10 M")


@measure
def hundred_million():
    big = Big(100_000_000)
    row("ingest, all blocks merged, 100 M", big.made["spans"] / big.made["cpu_s"], 600_000, "spans/CPU s", "more")
    row("blocks, merged, 100 M", big.made["bytes"] / big.made["spans"], 35, "bytes/span", "less")
    print(f"  {big.made['blocks']} blocks")
    starts(big, "100 M")
    reads(big, "100 M")


@measure
def profiles():
    """What the other shapes of traces take, merged."""
    for profile in ("flat", "deep", "wide"):
        data = fresh()
        with Run(*Big.FLAGS, data=data) as server:
            done = lib.run(lib.LYMER, "load", "--profile", profile, "--seed", "1", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}",
                           "--traces", str({"flat": 125_000, "deep": 10_000, "wide": 1_000}[profile]), timeout=600)
            said = json.loads(done.stdout.decode().strip().splitlines()[-1])
            server.finish()
        with Run(*Big.FLAGS, data=data) as server:
            server.settle()
            server.finish()
        row(f"blocks, merged, {profile}", tree_bytes(os.path.join(data, "blocks")) / said["spans_accepted"], 35, "bytes/span", "less")
        shutil.rmtree(data)


@measure
def application():
    """What a real application leaves behind: four Node.js services with OpenTelemetry's own HTTP instrumentation."""
    data = fresh()
    with Run(*Big.FLAGS, "--memtable=1MiB", data=data) as server:  # many blocks, so that there is something to merge
        done = lib.run("node", "app.mjs", server.url("/v1/traces", "otlp"), str(REQUESTS), cwd=lib.NODE_DIR, timeout=1200)
        said = json.loads(done.stdout)
        lib.equal(said["failed"], 0, "spans that could not be exported")
        m = server.metrics()
        lib.equal(m["lymer_spans_accepted_total"], said["sent"], "accepted")
        server.finish()
    with Run(*Big.FLAGS, data=data) as server:
        server.settle()
        merges = m["lymer_compactions_total"] + server.metrics()["lymer_compactions_total"]
        server.finish()
    blocks = os.path.join(data, "blocks")
    row("blocks, merged, Node.js application", tree_bytes(blocks) / said["sent"], 35, "bytes/span", "less")
    print(f"  {said['sent']:,} spans of {said['requests']:,} requests, after {merges:.0f} merges in {len(os.listdir(blocks))} blocks")
    shutil.rmtree(data)


def ask_on(server, big_params, stop):
    """Questions while it runs, one after the other; how long each took."""
    took = []
    n = 0
    while not stop.is_set():
        params = big_params(n)
        begun = time.monotonic()
        server.ask("/api/traces", params)
        took.append((time.monotonic() - begun) * 1000)
        n += 1
        stop.wait(0.05)
    return took


@measure
def sustained():
    """A rate that the machine holds beside the sender, for MINUTES * 2, while questions are asked."""
    data = fresh()
    rate = int(os.environ.get("BENCH_RATE", 150_000))
    with Run(data=data) as server:
        spans = int(rate * 60 * MINUTES * 2)
        command = [lib.LYMER, "load", "--profile", "shop", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", "--workers", "2",
                   "--rate", str(rate), "--traces", traces(spans)]
        stop, rss, busy, answers = threading.Event(), [], [], []
        services = ("gateway", "cart", "payment", "email")
        asker = threading.Thread(target=lambda: answers.extend(ask_on(server, lambda n: {"service": services[n % 4], "limit": 20, "lookback": "1h"}, stop)))
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
            asker.start()
            try:
                while sender.poll() is None:
                    rss.append(server.rss())
                    cpu = server.cpu_of()
                    busy.append(sum(cpu.values()) - sum(cpu[t] for t in server.cpu_of("worker") if t in cpu))
                    time.sleep(0.5)
                said = json.loads(sender.stdout.read().decode().strip().splitlines()[-1])
            finally:  # also when the server has died: nobody is waited for that has nobody to talk to
                sender.kill()
                stop.set()
                asker.join()
        lib.equal(said["spans_accepted"], said["spans_sent"], "accepted")
        m = server.metrics()
        asking = sum(server.cpu_of("worker").values())
        cpu, _ = server.finish()
    shutil.rmtree(data)
    quarter = len(rss) // 4
    row(f"ingest at {said['spans_per_s'] / 1000:.0f} k spans/s, {MINUTES * 2:g} min, merging", said["spans_accepted"] / (cpu - asking), 600_000, "spans/CPU s", "more")
    row("  acknowledged within, p99", said["ack_ms_p99"], 50, "ms", "less")
    row("  resident, last quarter over second", max(rss[-quarter:]) / max(rss[quarter:2 * quarter]), 1.15, "ratio", "less")
    print(f"  peak {max(rss) / 1e6:.0f} MB, {m['lymer_compactions_total']:.0f} merges, {len(answers)} questions, p50 {percentile(answers, 0.5):.1f} ms, p99 {percentile(answers, 0.99):.1f} ms, {asking:.0f} CPU s of them")
    marks = [0, *(busy[quarter * k - 1] for k in (1, 2, 3)), busy[-1]]
    print("  CPU s by quarter, without questions: " + ", ".join(f"{b - a:.1f}" for a, b in zip(marks, marks[1:])))


@measure
def size():
    stripped = os.path.join(fresh(), "lymer")
    lib.run("strip", "-o", stripped, os.path.realpath(lib.LYMER))
    row("binary, stripped", os.stat(stripped).st_size / 1e6, 5, "MB", "less")
    sent = sum(len(gzip.compress(open(os.path.join(lib.ROOT, "ui", "src", f), "rb").read(), 6))
               for f in os.listdir(os.path.join(lib.ROOT, "ui", "src")))
    row("first load of the page, gzipped", sent / 1024, 46, "KiB", "less")


def main():
    wanted = [m for m in MEASURES if not sys.argv[1:] or m.__name__ in sys.argv[1:]]
    try:
        for m in wanted:
            m()
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    if len(wanted) == len(MEASURES):
        with open("/proc/cpuinfo") as f:
            cpu = next(line for line in f if line.startswith("model name")).split(":")[1].strip()
        with open(os.path.join(lib.ROOT, "bench", "budget.csv"), "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["measure", "value", "budget", "unit", "met", "date", "machine"])
            for name, value, budget, unit, met in ROWS:
                out.writerow([name, f"{value:.2f}", budget, unit, met, datetime.date.today(), f"{cpu}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"])
    sys.exit(0 if all(r[4] == "yes" for r in ROWS) else 1)


main()
