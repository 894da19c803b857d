#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The budgets against the real binary over real sockets: bench/run.py [MEASURE…]. Prints a table and, when all measures
ran, writes bench/budget.csv. Rates are per second of the server's own CPU time, user and system, from exec to exit: log,
memtable and every block included. $BENCH_SPANS (default 2,000,000) and $BENCH_MINUTES (default 5) size the loads."""
import csv
import datetime
import gzip
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import lib  # noqa: E402

SPANS = int(os.environ.get("BENCH_SPANS", 2_000_000))
MINUTES = float(os.environ.get("BENCH_MINUTES", 5))
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
