# SPDX-License-Identifier: Apache-2.0
"""The command line against a real server and against directories."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

from lib import LYMER, Server, check, equal, free_offset, get, lymer, otlp, run, scenario, send, until


def ask(server, *args, ok=True, **more):
    return lymer(args[0], "--url", server.url(), *args[1:], ok=ok, **more)


def loaded(server, *flags, door="grpc"):
    where = f"grpc://127.0.0.1:{server.port('grpc')}" if door == "grpc" else server.url("/v1/traces", "otlp")
    return json.loads(lymer("load", "--endpoint", where, *flags).stdout)


@scenario
def load_says_what_the_server_took():
    with Server(memory=True) as server:
        ways = [("grpc",), ("http",), ("http", "--encoding", "json"), ("http", "--compression", "gzip"),
                ("grpc", "--compression", "zstd"), ("grpc", "--compression", "gzip", "--workers", "3")]
        total, counted = 0, None
        for seed, (door, *flags) in enumerate(ways):
            said = loaded(server, "--traces", "60", "--seed", str(seed + 1), *flags, door=door)
            equal(said["spans_accepted"], said["spans_sent"], f"{door} {flags}")
            equal((said["traces"], said["spans_rejected"]), (60, 0), f"{door} {flags}")
            check(0 < said["ack_ms_p50"] <= said["ack_ms_p99"] < 30_000, "acknowledgement times", said)
            total += said["spans_sent"]
        counted = server.metrics()["lymer_spans_accepted_total"]
        equal(counted, total, "the server's count")
        equal(set(get(server.url("/api/services"))["data"]), {
            "gateway", "frontend", "catalog", "cart", "checkout", "currency", "payment", "shipping", "email",
            "recommendation", "ad", "accounting"}, "services")


@scenario
def load_spreads_over_the_time_it_is_given():
    with Server(memory=True) as server:
        loaded(server, "--traces", "50", "--seed", "5", "--over", "24h")
        now = time.time_ns() // 1000
        found = get(server.url("/api/traces"), {"service": "gateway", "limit": 100, "start": now - 26 * 3_600_000_000, "end": now})["data"]
        starts = sorted(min(s["startTime"] for s in t["spans"]) for t in found)
        check(len(starts) > 10 and starts[-1] - starts[0] > 20 * 3_600_000_000, "spread", len(starts), starts[:1], starts[-1:])


@scenario
def load_keeps_the_rate():
    with Server(memory=True) as server:
        said = loaded(server, "--traces", "100", "--rate", "3000")
        check(2500 < said["spans_per_s"] < 3300, said)


@scenario
def load_survives_a_restart():
    offset = free_offset()
    with Server(offset=offset) as server:
        sender = subprocess.Popen([LYMER, "load", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", "--traces", "1500",
                                   "--rate", "20000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(lambda: server.metrics().get("lymer_spans_accepted_total", 0) > 2000, what="first spans")
        server.stop()
        with Server(offset=offset, data=server.data) as again:
            out, err = sender.communicate(timeout=60)
            said = json.loads(out)
            equal((sender.returncode, said["spans_accepted"]), (0, said["spans_sent"]), err)
            again.stop()


@scenario
def export_and_import_lose_nothing():
    with Server() as server, tempfile.TemporaryDirectory() as work:
        loaded(server, "--traces", "50", "--errors", "50")
        trace, message = otlp(service="odd", spans=3, traceState="a=b", attributes=[
            {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "-5"}, {"doubleValue": 0.1}, {"boolValue": True}]}}},
            {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"bytesValue": "AAEC/w=="}}]}}},
            {"key": "empty", "value": {}}, {"key": "text", "value": {"stringValue": "\u00e9\u0000\"\\ \U0001f680"}}])
        equal(send(server, message)[0], 200, "send")
        first = ask(server, "export").stdout
        equal(len(first.splitlines()), 51, "lines")
        name = os.path.join(work, "all.jsonl")
        with open(name, "wb") as f:
            f.write(first)
        copy = os.path.join(work, "copy")
        equal(json.loads(lymer("import", name, "--data", copy, "-o", "json").stdout)["spans_rejected"], 0, "rejected")
        equal(lymer("export", "--data", copy).stdout, first, "what came through a directory")
        with Server() as other:
            piped = run(LYMER, "import", "-", "--endpoint", other.url("", "otlp"), input=first)
            check(b"51 documents" in piped.stdout, piped.stdout)
            equal(ask(other, "export").stdout, first, "what came through a server")
        only = ask(server, "export", "--service", "odd").stdout
        equal(len(only.splitlines()), 1, "filtered")
        pretty = json.dumps(json.loads(only), indent=2).encode()
        equal(json.loads(run(LYMER, "import", "-", "--data", copy, "-o", "json", input=pretty).stdout)["spans_accepted"], 3, "pretty")
        check(b"ok" in lymer("verify", copy).stdout, "verify")
        held = lymer("search", "--data", server.data, ok=False)
        equal(held.returncode, 4, "a directory in use")
        check(b"--url" in held.stderr, held.stderr)


@scenario
def searches_by_order_page_by_page():
    with Server() as server:
        loaded(server, "--traces", "60", "--errors", "30")
        whole = {}
        for order, key in (("newest", None), ("slowest", None), ("spans", "spans"), ("errors", "errors")):
            rows = json.loads(ask(server, "search", "--order", order, "--limit", "1000", "-o", "json").stdout)
            whole[order] = [r["traceID"] for r in rows]
            check("nextCursor" not in rows[-1], "nothing behind the end")
            if key:
                equal([r[key] for r in rows], sorted((r[key] for r in rows), reverse=True), order)
            pages, cursor = [], ()
            while True:
                done = ask(server, "search", "--order", order, "--limit", "7", "-o", "jsonl", *cursor)
                page = [json.loads(x) for x in done.stdout.splitlines()]
                pages += [r["traceID"] for r in page]
                equal("nextCursor" in page[-1], b"--cursor" in done.stderr, "the hint")
                if "nextCursor" not in page[-1]:
                    break
                check(page[-1]["nextCursor"].encode() in done.stderr, done.stderr)
                cursor = ("--cursor", page[-1]["nextCursor"])
            equal(pages, whole[order], order)
        check(0 < len(whole["errors"]) < len(whole["newest"]) == 60, whole["errors"])
        failed = json.loads(ask(server, "search", "--status", "error", "--limit", "1000", "-o", "json").stdout)
        equal(sorted(r["traceID"] for r in failed), sorted(whole["errors"]), "status")
        lines = ask(server, "export", "--status", "error").stdout.splitlines()
        equal(len(lines), len(failed), "export by status")
        equal(ask(server, "search", "--kind", "producer", "--has", "no.such.key", ok=False).returncode, 3, "absent key")
        answer = get(server.url("/api/traces"), {"order": "slowest", "limit": "3"})
        equal([t["traceID"].rjust(32, "0") for t in answer["data"]], whole["slowest"][:3], "the query API")
        check(answer["coverage"]["complete"] and answer["errors"] is None, answer["coverage"])
        behind = get(server.url("/api/traces"), {"cursor": answer["nextCursor"], "limit": "3"})
        equal([t["traceID"].rjust(32, "0") for t in behind["data"]], whole["slowest"][3:6], "behind the cursor")
        check("coverage" not in get(server.url("/api/traces"), {"service": "frontend"}), "Jaeger's own answer")
        for args in (("--order", "x"), ("--cursor", "x"), ("--order", "spans", "--cursor", answer["nextCursor"])):
            equal(ask(server, "search", *args, ok=False).returncode, 2, args)
        server.stop()
        stored = lymer("search", "--data", server.data, "--order", "slowest", "--limit", "1000", "-o", "id").stdout.decode().split()
        equal(stored, whole["slowest"], "read from the directory")


@scenario
def a_search_that_ends_at_its_budget_says_so():
    with Server("--query-max-bytes", "1", "--memtable", "64KiB", "--compact-cpu-percent", "0") as server:  # blocks stay many
        loaded(server, "--traces", "60")
        until(lambda: b"ended at its budget" in ask(server, "search", "--limit", "1000").stderr, what="a search too large")
        found, cursor, continued = [], (), []
        while True:
            done = ask(server, "search", "-o", "id", "--limit", "10", *cursor)
            found += done.stdout.decode().split()
            hint = done.stderr.split(b"--cursor ")[1:]
            if not hint:
                break
            continued.append(done.stderr)
            cursor = ("--cursor", hint[0].split()[0].decode())
        counted = ask(server, "search", "--order", "spans", "--limit", "1000")
        check(b"ended at its budget" in counted.stderr and b"--cursor" not in counted.stderr, counted.stderr)
        check(b"raise query.max-bytes" in counted.stderr, "nothing says how to get further")
        check(all(b"raise query.max-bytes" not in said for said in continued), "a search that can go on says it cannot")
        server.stop()
        whole = lymer("search", "--data", server.data, "-o", "id", "--limit", "1000").stdout.decode().split()
        equal(found, whole[:len(found)], "as far as it goes it is exact")


@scenario
def questions_and_their_exit_codes():
    with Server(memory=True) as server:
        equal(ask(server, "search", ok=False).returncode, 3, "nothing there")
        loaded(server, "--traces", "30", "--errors", "100")
        rows = json.loads(ask(server, "search", "--limit", "7", "-o", "json").stdout)
        equal(len(rows), 7, "limit")
        equal(len({r["traceID"] for r in rows}), 7, "different traces")
        ids = ask(server, "search", "--service", "frontend", "--tag", "error=true", "-o", "id").stdout.split()
        check(ids, "errors found")
        lines = ask(server, "search", "--limit", "3", "-o", "jsonl").stdout.splitlines()
        equal([len(json.loads(x)["traceID"]) for x in lines], [32] * 3, "jsonl")
        trace = ids[0].decode()
        text = ask(server, "trace", trace, env={"COLUMNS": "80", "LANG": "C.UTF-8"}).stdout.decode()
        check(trace in text and "gateway" in text and "✗" in text and "\033" not in text, text)
        check(all(len(x) <= 80 for x in text.splitlines()), text)
        check("\033[" in ask(server, "trace", trace, env={"CLICOLOR_FORCE": "1"}).stdout.decode(), "forced colour")
        otlp_text = ask(server, "trace", trace, "-o", "otlp", "--raw").stdout
        again = run(LYMER, "trace", "-", "--ascii", input=otlp_text).stdout.decode()
        check(trace in again and "|-" in again, again)
        jaeger = json.loads(ask(server, "trace", trace, "-o", "json").stdout)
        equal(jaeger["data"][0]["traceID"], trace, "json")
        check(b"frontend" in ask(server, "services").stdout, "services")
        check(any(o["spanKind"] == "client" for o in json.loads(ask(server, "ops", "cart", "-o", "json").stdout)), "ops")
        calls = json.loads(ask(server, "deps", "-o", "json").stdout)
        check(any((c["parent"], c["child"]) == ("gateway", "frontend") and c["callCount"] == 30 for c in calls), calls)
        for args, code in ((("trace", "ab" * 16), 3), (("ops", "nobody"), 3), (("trace", "nonsense!"), 2),
                           (("search", "--tag", "novalue"), 2), (("search", "--limit", "0"), 2), (("search", "-o", "xml"), 2)):
            done = ask(server, *args, ok=False)
            equal(done.returncode, code, args)
            check(done.stderr and not done.stdout, args)
        equal(lymer("doctor", "--port-offset", str(server.offset), "--data", "/", "-o", "json").returncode, 0, "doctor")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        equal(lymer("services", "--url", f"http://127.0.0.1:{port}", ok=False).returncode, 4, "nobody there")
        equal(lymer("load", "--endpoint", f"grpc://127.0.0.1:{port}", "--give-up", "200ms", "--traces", "1", ok=False).returncode, 4,
              "load to nobody")
    for args in ((), ("help",), ("version",), ("config",), ("completion", "bash"), ("search", "--help")):
        equal(lymer(*args).returncode, 0, args)
    for args in (("nonsense",), ("search", "extra"), ("load", "--profile", "x"), ("trace",), ("completion", "csh")):
        equal(lymer(*args, ok=False).returncode, 2, args)


@scenario
def settings_are_reloaded_and_base_paths_work():
    with tempfile.TemporaryDirectory() as work:
        name = os.path.join(work, "lymer.yaml")
        with open(name, "w") as f:
            f.write("log: {level: info}\nquery.base-path: /jaeger/\n")
        with Server("--config", name, memory=True) as server:
            equal(get(server.url("/jaeger/api/services"))["data"], [], "under the base path")
            check(b"<!doctype" in get(server.url("/jaeger/search"), raw=True)[1][:20].lower(), "the page")
            with open(name, "w") as f:
                f.write("retention: 1h\nlisten: 127.0.0.2\nquery.base-path: /jaeger/\n")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: "reloaded" in server.output(), what="reload")
            check("listen changed" in server.output(), server.output())
            with open(name, "w") as f:
                f.write("retentoin: 1h\n")
            server.process.send_signal(signal.SIGHUP)
            until(lambda: "did you mean" in server.output(), what="refusal")
            server.stop()
    with Server(memory=True, env={"SPAN_STORAGE_TYPE": "badger", "ES_PASSWORD": "hush", "MEMORY_MAX_TRACES": "5"}) as server:
        said = server.output()
        check("MEMORY_MAX_TRACES" in said and "ES_PASSWORD" in said and "hush" not in said, said)


@scenario
def a_second_signal_ends_at_once():
    with Server("--shutdown-timeout", "60s", memory=True) as server:
        with socket.create_connection(("127.0.0.1", server.port("otlp"))) as s:
            s.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
            until(lambda: server.metrics().get("lymer_connections_open", 0) >= 1, what="connection")
            server.process.send_signal(signal.SIGTERM)
            until(lambda: "stopping" in server.output(), what="first signal")
            begun = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(10)
            check(time.monotonic() - begun < 5, "it waited")
