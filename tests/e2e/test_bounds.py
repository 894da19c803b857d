# SPDX-License-Identifier: Apache-2.0
"""What the server may take of the machine: the disk cap, seen as du sees it while spans pour in."""
import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from lib import LYMER, ROOT, VENV_PYTHON, Server, Skipped, check, equal, get, lymer, otlp, request, run, scenario, send, until, whole_spans

CAP = 16_000_000


def disk_bytes(path):
    """Every block of every file and folder; a file may vanish while we look."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in [folder, *(os.path.join(folder, f) for f in files)]:
            try:
                total += os.lstat(name).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def noisy(service="pour"):
    """A trace that cannot be compressed."""
    noise = [{"key": "noise", "value": {"stringValue": base64.b64encode(os.urandom(90_000)).decode()}}]
    return otlp(service, 3, attributes=noise)


def pour(server, requests):
    """Such traces, each until it is taken. Returns the last one."""
    trace = None
    for _ in range(requests):
        trace, message = noisy()
        until(lambda: send(server, message)[0] == 200, 40, "the spans to be taken")
    return trace


@scenario
def the_disk_cap_holds_at_any_moment():
    with Server(f"--max-disk={CAP}", "--memtable=1MB") as s, ThreadPoolExecutor(2) as pool:
        load, seen = pool.submit(pour, s, 400), []
        until(lambda: seen.append(disk_bytes(s.data)) or load.done(), 100, "the end of the load")
        check(len(seen) > 10, "looked", len(seen))
        check(CAP // 2 < max(seen) <= CAP, "most", max(seen))
        check(s.metrics()["lymer_blocks_expired_total"] > 0, "no block was dropped")
        equal(len(get(s.url(f"/api/traces/{load.result()}"))["data"][0]["spans"]), 3)
        s.stop()
        check(disk_bytes(s.data) <= CAP, "after the end")


@scenario
def a_disk_cap_too_small_to_work_is_refused():
    s = Server("--max-disk=10MB", wait=False)
    equal(s.process.wait(20), 2, "exit code")
    check("max-disk of 10000000 bytes is too small" in s.output(), s.output())
    s.kill()


@scenario
def expired_spans_are_not_read():
    with Server("--retention=2s") as s:
        trace, message = otlp("brief", 1)
        equal(send(s, message)[0], 200)
        equal(len(get(s.url(f"/api/traces/{trace}"))["data"][0]["spans"]), 1)
        begun = time.monotonic()
        until(lambda: get(s.url(f"/api/traces/{trace}"), raw=True)[0] == 404, 10, "expired")
        check(time.monotonic() - begun < 5, "late")
        now = time.time_ns() // 1000
        found = get(s.url("/api/traces"), {"service": "brief", "start": now - 60_000_000, "end": now})
        equal(found["data"], [])
        equal(get(s.url("/api/services"))["data"] or [], [])


def rfc3339(ns):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns // 10**9))


SMALL_DISK = "32m"
BALLAST = 14 << 20
UNSHARED = "E2E_UNSHARED"


@contextlib.contextmanager
def small_disk():
    """A file system that can really be full, with a ballast file in it."""
    with tempfile.TemporaryDirectory(prefix="lymer-e2e-disk-") as place:
        run("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "lymer-e2e", place)
        try:
            ballast = os.path.join(place, "ballast")
            with open(ballast, "wb") as f:
                os.posix_fallocate(f.fileno(), 0, BALLAST)
            yield os.path.join(place, "data"), ballast
        finally:
            run("umount", place)


def mounts_are_private():
    """True: here a mount is nobody else's and goes when this process does. False: the scenario has run in such a place."""
    if os.environ.get(UNSHARED):
        return True
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):  # as root; as root of namespaces of our own
        if run(*unshare, "mount", "-t", "tmpfs", "lymer-e2e", tempfile.gettempdir(), ok=False).returncode == 0:
            done = run(*unshare, sys.executable, os.path.join(ROOT, "tests", "e2e", "run.py"), "a_really_full_disk", ok=False, env={UNSHARED: "1"})
            check(done.returncode == 0, done.stdout.decode(), done.stderr.decode())
            return False
    raise Skipped("NO TMPFS CAN BE MOUNTED, neither as root nor in a user namespace: a disk that is really full was not tested")


class Pourer(threading.Thread):
    """Traces one after another, each once, and what was answered."""

    def __init__(self, server, stop):
        super().__init__(daemon=True)
        self.server, self.stop, self.taken, self.refused, self.other = server, stop, {}, [], []

    def run(self):
        while not self.stop.is_set():
            trace, message = noisy()
            try:
                status, body, headers = send(self.server, message)
            except OSError as e:
                self.other.append(str(e))
                return
            if status == 200:
                spans = message["resourceSpans"][0]["scopeSpans"][0]["spans"]
                self.taken[trace] = {s["spanId"]: s["attributes"][0]["value"]["stringValue"] for s in spans}
            elif status == 503:
                self.refused.append((json.loads(body), headers["Retry-After"]))
                self.stop.wait(0.02)
            else:
                self.other.append((status, body))


def all_there(server, taken, when):
    for trace, spans in taken.items():
        got = get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]
        noise = {s["spanID"]: next(t["value"] for t in s["tags"] if t["key"] == "noise") for s in got}
        check(len(got) == len(spans) and noise == spans, when, trace, "is not what was acknowledged")


def refused_grpc(server):
    """Code, sentence and names of the details of the answer to a gRPC request."""
    script = """import grpc, json, sys
from google.rpc import status_pb2, error_details_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as t, trace_service_pb2_grpc
r = t.ExportTraceServiceRequest()
r.resource_spans.add().scope_spans.add().spans.add(trace_id=b"1" * 16, span_id=b"1" * 8, name="x" * 60000)
try:
    trace_service_pb2_grpc.TraceServiceStub(grpc.insecure_channel(sys.argv[1])).Export(r, timeout=20)
    print(json.dumps(["taken", "", []]))
except grpc.RpcError as e:
    status = status_pb2.Status.FromString(dict(e.trailing_metadata())["grpc-status-details-bin"])
    print(json.dumps([e.code().name, e.details(), [d.type_url for d in status.details]]))"""
    return json.loads(run(VENV_PYTHON, "-c", script, f"127.0.0.1:{server.port('grpc')}").stdout)


def answers_meanwhile(server, taken):
    """Every kind of question has its answer."""
    check("pour" in get(server.url("/api/services"))["data"], "services")
    trace = next(reversed(taken))
    equal(len(get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]), 3, "a trace")
    found = get(server.url("/api/traces"), {"service": "pour", "limit": 5, "lookback": "1h"})["data"]
    equal(len(found), 5, "search")
    equal(get(server.url("/", "admin"), raw=True)[0], 200, "health: the server itself is well")


SHOP = ("--traces", "400", "--seed", "9", "--start", "2026-01-01T00:00:00Z", "--over", "10s")


def shop(url):
    """The spans of `lymer load`, whole."""
    return whole_spans(lymer("export", "--url", url, "--service", "gateway").stdout.splitlines())


def fill(server, stop):
    """Pours until everybody is refused for lack of space, and looks at how."""
    pourers = [Pourer(server, stop) for _ in range(2)]
    before = server.metrics()
    for p in pourers:
        p.start()
    until(lambda: all(any("disk is full" in r[0]["message"] for r in p.refused) for p in pourers), 30, "a full disk")
    for p in pourers:
        for body, retry in p.refused:
            equal([body["code"], [d["@type"] for d in body["details"]]], [14, ["type.googleapis.com/google.rpc.RetryInfo"]], body)
            check(int(retry) > 0, "Retry-After", retry)
    code, sentence, details = refused_grpc(server)
    equal([code, details], ["UNAVAILABLE", ["type.googleapis.com/google.rpc.RetryInfo"]], sentence)
    after, refused = server.metrics(), 'lymer_batches_refused_total{reason="disk"}'
    check(after[refused] >= before[refused] + 3, "counted by reason", before[refused], after[refused])
    check(after["lymer_spans_refused_total"] > before["lymer_spans_refused_total"], "refused spans are counted")
    return pourers


def taken_by(pourers):
    for p in pourers:
        equal(p.other, [], "nothing but taken and refused")
    return {trace: spans for p in pourers for trace, spans in list(p.taken.items())}


def refused_to(pourers):
    """Spans, with requests that are under way now, and the one by gRPC."""
    return sum(3 * (len(p.refused) + 1) for p in pourers) + 1


@scenario
def a_really_full_disk_refuses_and_recovers():
    if not mounts_are_private():
        return
    with Server() as s:
        lymer("load", "--endpoint", f"grpc://127.0.0.1:{s.port('grpc')}", *SHOP)
        expected = shop(s.url())
    check(len(expected) > 10_000, "spans of the load", len(expected))
    flags = ("--memtable=1MB", "--max-disk=0")  # the disk is the limit, not the cap
    with small_disk() as (data, ballast), contextlib.ExitStack() as ending:
        stop = threading.Event()
        ending.callback(stop.set)
        with Server(*flags, data=data) as s:
            pourers = fill(s, stop)
            command = [LYMER, "load", "--endpoint", f"grpc://127.0.0.1:{s.port('grpc')}", *SHOP]
            loader = ending.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            ending.callback(loader.kill)
            until(lambda: s.metrics()["lymer_spans_refused_total"] > refused_to(pourers), 20, "lymer load is refused too")
            answers_meanwhile(s, taken_by(pourers))
            all_there(s, taken_by(pourers), "on a full disk")

            taken = len(taken_by(pourers))
            os.unlink(ballast)
            until(lambda: len(taken_by(pourers)) > taken + 10, 20, "taken again once there is space")
            stop.set()
            for p in pourers:
                p.join(20)
            said = json.loads(loader.communicate(timeout=30)[0].splitlines()[-1])
            equal([loader.returncode, said["spans_accepted"]], [0, said["spans_sent"]], "lymer load")
            check(said["retries"] > 0, "the load was refused nothing", said)
            taken = taken_by(pourers)
            all_there(s, taken, "once there is space")
            s.kill()
        with Server(*flags, data=data) as s:
            all_there(s, taken, "after kill -9")
            check(shop(s.url()) == expected, "the load is there whole, and once")

            stop.clear()  # full once more: kill -9 and a start on the full disk
            with open(ballast, "wb") as f:
                room = os.fstatvfs(f.fileno())
                os.posix_fallocate(f.fileno(), 0, max(room.f_bavail * room.f_frsize - (4 << 20), 4096))
            pourers = fill(s, stop)
            stop.set()
            for p in pourers:
                p.join(20)
            taken |= taken_by(pourers)
            s.kill()
        with Server(*flags, data=data) as s:
            all_there(s, taken, "after kill -9 and a start on a full disk")
            os.unlink(ballast)
            trace, message = noisy()
            until(lambda: send(s, message)[0] == 200, 20, "taken again")
            equal(len(get(s.url(f"/api/traces/{trace}"))["data"][0]["spans"]), 3, "a new trace")
            check(shop(s.url()) == expected, "the load is still there")
            s.stop()
        check(b"damaged" not in lymer("verify", data).stdout, "verify")


def status_bytes(server, name):
    with open(f"/proc/{server.process.pid}/status") as f:
        return int(next(line for line in f if line.startswith(name)).split()[1]) * 1024


def peak_bytes(server):
    return status_bytes(server, "VmHWM")


def resident_bytes(server):
    return status_bytes(server, "VmRSS")


@scenario
def a_question_past_the_memory_limit_fails_and_nothing_else():
    with Server("--max-memory=64MiB") as s:
        lymer("load", "--endpoint", f"http://127.0.0.1:{s.port('otlp')}/v1/traces", "--profile", "wide", "--spans", "100000",
              "--traces", "1", timeout=100)
        now = time.time_ns() // 1000
        service = get(s.url("/api/services"))["data"][0]
        for _ in range(3):
            params = {"service": service, "start": now - 3600_000_000, "end": now + 60_000_000, "limit": 1}
            # The memory of the question before is given back a moment after its answer.
            found = until(lambda: (a := get(s.url("/api/traces"), params, raw=True))[0] == 200 and json.loads(a[1]), what="memory")
            check("--max-memory" in found["errors"][0]["msg"], found["errors"])
            trace = found["errors"][0]["traceID"]
            status, body = get(s.url(f"/api/traces/{trace}"), raw=True)
            equal(status, 503)
            check("more memory than all questions together may take: 16777216 bytes" in body.decode(), body)
        small, message = otlp("small", 3)
        equal(send(s, message)[0], 200)
        status, body = until(lambda: (a := get(s.url(f"/api/traces/{small}"), raw=True))[0] != 503 and a, what="memory for a small trace")
        equal([status, len(json.loads(body)["data"][0]["spans"])], [200, 3], "a small trace")
        if "release" in os.path.realpath(LYMER):  # sanitizers take more
            check(peak_bytes(s) < 80 << 20, "resident", peak_bytes(s))
        s.stop()


@scenario
def a_trace_too_large_for_memory_is_read_in_pages():
    spans = int(os.environ.get("LYMER_HUGE_TRACE", 300_000))
    with Server("--max-memory=64MiB") as s:
        said = json.loads(lymer("load", "--endpoint", f"grpc://127.0.0.1:{s.port('grpc')}", "--profile", "flat", "--spans", str(spans),
                                "--traces", "1").stdout.decode().splitlines()[-1])
        equal(said["spans_accepted"], spans, "taken")
        now = time.time_ns() // 1000
        found = get(s.url("/api/traces"), {"order": "newest", "limit": 1, "start": now - 3_600_000_000, "end": now + 60_000_000})
        trace = found["errors"][0]["traceID"]  # found, but too large to be listed
        status, body, _ = request("GET", s.url(f"/api/traces/{trace}"))
        equal(status, 503, "whole")
        check(b"reads it in pages" in body, body)
        seen, last = set(), 0
        for offset in (0, spans // 2, spans - 500):
            page = get(s.url(f"/api/traces/{trace}"), {"offset": offset, "limit": 1000})
            equal((page["total"], page["offset"], page["limit"]), (spans, offset, 1000), "envelope")
            got = page["data"][0]["spans"]
            equal(len(got), min(1000, spans - offset), "spans of the page")
            check(got[0]["startTime"] >= last, "order")
            last = got[-1]["startTime"]
            seen |= {x["spanID"] for x in got}
        equal(len(seen), 2500, "every span once")
        equal(get(s.url(f"/api/traces/{trace}"), {"offset": spans})["data"], [], "behind the end")
        equal(request("GET", s.url(f"/api/traces/{trace}?limit=10001"))[0], 400, "a page too large")
        if "release" in os.path.realpath(LYMER):  # sanitizers take more
            check(peak_bytes(s) < 128 << 20, "resident", peak_bytes(s))
        s.stop()


def small_spans(count):
    """A request of so many spans of one trace, as small as they can be."""
    def field(number, body):
        size, head = len(body), bytes([number << 3 | 2])
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        return head + bytes([size]) + body

    one = field(2, field(1, b"\1" * 16) + field(2, b"\2" * 8) + b"\x39" + b"\3" * 8)
    return field(1, field(2, one * count))


@scenario
def memory_holds_with_everything_at_once():
    """Senders at full speed, large traces and requests among theirs, and questions in four threads: max-memory, and 256 MiB for the work."""
    release = "release" in os.path.realpath(LYMER)
    budget, share = 128 << 20, 1 if release else 10  # sanitizers are slower, and take more
    with Server(f"--max-memory={budget}") as s:
        def pour_out(profile, traces):
            out = lymer("load", "--endpoint", f"grpc://127.0.0.1:{s.port('grpc')}", "--profile", *profile, "--traces", str(traces), "--workers", "2")
            return json.loads(out.stdout.decode().splitlines()[-1])["spans_accepted"]

        def pour_large(requests):
            body = small_spans(100_000)
            return sum(100_000 for _ in range(requests) if send(s, body, "application/x-protobuf")[0] == 200)

        answers, unbuilt = {}, []
        with ThreadPoolExecutor(7) as pool:
            senders = [pool.submit(pour_out, ("shop",), 20_000 // share), pool.submit(pour_out, ("wide", "--spans", "50000"), 10 // share),
                       pool.submit(pour_large, 100 // share)]

            def ask():
                while not all(sender.done() for sender in senders):
                    unbuilt.append(s.metrics()["lymer_memtable_bytes"])
                    now = time.time_ns() // 1000
                    window = {"start": now - 3_600_000_000, "end": now + 60_000_000}
                    for path, params in (("/api/traces", {**window, "limit": 100, "service": "frontend"}), ("/api/traces", {**window, "order": "slowest", "limit": 20}),
                                         ("/api/dependencies", {"endTs": now // 1000, "lookback": 3_600_000})):
                        status, body = get(s.url(path), params, raw=True)
                        answers[status] = answers.get(status, 0) + 1
                        check(status == 200 or b"--max-memory" in body, status, body[:300])
            asking = [pool.submit(ask) for _ in range(4)]
            for task in asking:
                task.result()
        sent = sum(sender.result() for sender in senders)
        check(sent > 1_000_000 // share and answers.get(200, 0) > 10, "a busy server", sent, answers)
        equal(s.metrics()["lymer_spans_accepted_total"], sent, "taken")
        print(f"# {sent} spans, answers {answers}: {peak_bytes(s) >> 20} MiB at most, {max(unbuilt) / (1 << 20):.0f} in memtables")
        check(max(unbuilt) <= budget // 2, "memtables, and what waited for them", max(unbuilt))
        if release:
            check(peak_bytes(s) < budget + (256 << 20), "resident", peak_bytes(s))
        s.stop()


def first_page(server, trace):
    return f"lymer trace {trace} --offset 0 --limit 1000 --url {server.url('')}"


@scenario
def a_trace_too_large_for_memory_is_summarised_and_its_pages_are_drawn():
    spans, late = int(os.environ.get("LYMER_HUGE_TRACE", 300_000)), 1000
    with Server("--max-memory=64MiB") as s:
        said = json.loads(lymer("load", "--endpoint", f"grpc://127.0.0.1:{s.port('grpc')}", "--profile", "flat", "--spans", str(spans),
                                "--traces", "1").stdout.decode().splitlines()[-1])
        equal(said["spans_accepted"], spans, "taken")
        now, own = time.time_ns(), s.url("")
        window = {"query.startTimeMin": rfc3339(now - 3600 * 10**9), "query.startTimeMax": rfc3339(now + 60 * 10**9)}
        listed = get(s.url("/api/v3/trace-summaries"), window)["summaries"]
        equal(len(listed), 1, "listed")
        trace, before = listed[0]["traceId"], listed[0]
        equal((before["spanCount"], before["rootSpanCount"], before["asStored"]), (spans, 1, True), "the trace as it came")

        # Late spans of another service: some of a parent that is there, some of one that never comes, one a second root.
        page = get(s.url(f"/api/v3/traces/{trace}"), {"offset": 0, "limit": 1})
        equal((page["total"], page["limit"], page["offset"]), (spans, 1, 0), "page")
        first = page["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
        start = int(first["startTimeUnixNano"])
        rows = [{"traceId": trace, "spanId": f"{0xabcd << 32 | i:016x}", "name": "late", "kind": 1,
                 "parentSpanId": first["spanId"] if i % 2 else "00000000deadbeef",
                 "startTimeUnixNano": str(start + i), "endTimeUnixNano": str(start + i + 10), "status": {"code": 2 if i % 4 == 0 else 0}}
                for i in range(1, late + 1)]
        rows[-1] |= {"parentSpanId": "", "name": "second root"}
        equal(send(s, {"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "late"}}]},
                                          "scopeSpans": [{"spans": rows}]}]})[0], 200)
        total = spans + late
        for path, params in ((f"/api/v3/trace-summaries/{trace}", None), ("/api/v3/trace-summaries", window)):
            after = get(s.url(path), params)["summaries"][0]
            equal({k: after[k] for k in ("spanCount", "rootSpanCount", "orphanSpanCount", "rootOperationName")},
                  {"spanCount": total, "rootSpanCount": 2, "orphanSpanCount": late // 2 - 1, "rootOperationName": before["rootOperationName"]},
                  "with late spans")
            equal(after["errorSpanCount"], before.get("errorSpanCount", 0) + late // 4, "errors")
            equal(next(x for x in after["services"] if x["name"] == "late"),
                  {"name": "late", "spanCount": late, "errorSpanCount": late // 4}, "service")
            equal(sum(x["spanCount"] for x in after["services"]), total, "spans of all services")
            equal(after["minStartTimeUnixNano"], str(start), "start")
        equal(get(s.url("/api/v3/trace-summaries/" + "1" * 32), raw=True)[0], 404, "no such trace")

        # The command: not a bare error, but the summary and what to type; which then works.
        whole = lymer("trace", trace, "--url", own)
        text = whole.stdout.decode()
        check(f"{total:,} spans" in text and "2 roots" in text and first_page(s, trace) in text, text)
        check("--max-memory" in whole.stderr.decode(), whole.stderr)
        answer = lymer("trace", trace, "--url", own, "-o", "json", ok=False)
        equal(answer.returncode, 1, "no data is no success")
        data = json.loads(answer.stdout)
        equal((data["data"], data["summary"]["spans"], data["firstPage"]), ([], total, first_page(s, trace)), "json")
        answer = lymer("trace", trace, "--url", own, "-o", "otlp", ok=False)
        equal((answer.returncode, answer.stdout), (1, b""), "otlp")
        check(first_page(s, trace) in answer.stderr.decode(), answer.stderr)
        drawn = lymer(*data["firstPage"].split()[1:], env={"LC_ALL": "C.UTF-8"})
        check(f"spans 1–1,000 of {total:,}" in drawn.stdout.decode(), drawn.stdout[:500])
        check(b"--offset 1000" in drawn.stderr, drawn.stderr)
        last = lymer("trace", trace, "--url", own, "--offset", str(total - 5), "--ascii")
        check(f"spans {total - 4:,}-{total:,} of {total:,}" in last.stdout.decode(), last.stdout)
        equal(last.stderr, b"", "nothing more")
        page = json.loads(lymer("trace", trace, "--url", own, "--offset", "10", "--limit", "7", "-o", "json").stdout)
        equal((page["total"], page["offset"], page["limit"], len(page["data"][0]["spans"])), (total, 10, 7, 7), "page as json")
        equal(lymer("trace", trace, "--url", own, "--offset", str(total), ok=False).returncode, 3, "behind the end")
        check(lymer("search", "--url", own, "-o", "id").stdout.decode().strip() == trace, "search")
        if "release" in os.path.realpath(LYMER):  # sanitizers take more
            check(peak_bytes(s) < 128 << 20, "resident", peak_bytes(s))
        s.stop()
        page = json.loads(lymer("trace", trace, "--data", s.data, "--offset", str(total - 3), "-o", "json").stdout)
        equal((page["total"], len(page["data"][0]["spans"])), (total, 3), "of a directory")


@scenario
def large_requests_leave_nothing_behind():
    """Small spans take several times the memory of the request that brings them; it is given back whatever becomes of them."""
    large = small_spans((34 << 20) // 45)
    with Server("--max-memory=64MiB") as s:
        with ThreadPoolExecutor(3) as pool:
            for status, body, _ in pool.map(lambda _: send(s, large, "application/x-protobuf"), range(12)):
                check((status == 413 and b"16 MiB" in body) or status == 503, status, body[:200])
        fits = small_spans(100_000)
        until(lambda: send(s, fits, "application/x-protobuf")[0] == 200, what="taken")
        equal(s.metrics()["lymer_spans_accepted_total"], 100_000, "taken once")
        if "release" in os.path.realpath(LYMER):  # sanitizers take more
            check(peak_bytes(s) < 160 << 20, "at most", peak_bytes(s))
            until(lambda: resident_bytes(s) < 80 << 20, what="given back")
        print(f"# {peak_bytes(s) >> 20} MiB at most, {resident_bytes(s) >> 20} at the end")
        s.stop()
