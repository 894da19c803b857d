# SPDX-License-Identifier: Apache-2.0
"""Bad input gets an answer in the protocol's own form, is counted, and changes nothing else."""
import gzip
import json
import os
import socket
import struct
import time
import zlib

from lib import Server, check, equal, get, lymer, otlp, request, run, scenario, send, until, LYMER, VENV_PYTHON


def alive(server):
    """The server still takes a good span and gives it back."""
    trace, message = otlp()
    equal(send(server, message)[0], 200, "good request after bad input")
    equal(len(get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]), 1, "good trace")


def span(**fields):
    now = str(time.time_ns())
    return {"traceId": os.urandom(16).hex(), "spanId": os.urandom(8).hex(), "name": "x",
            "startTimeUnixNano": now, "endTimeUnixNano": now, **fields}


def message(*spans):
    return {"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "bad"}}]},
                               "scopeSpans": [{"spans": list(spans)}]}]}


@scenario
def bad_ids_are_a_partial_success():
    with Server(memory=True) as server:
        good = span()
        for bad in (span(traceId="0" * 32), span(spanId="0" * 16), span(traceId="abcd"), span(spanId=""), span(traceId="")):
            status, body, _ = send(server, message(bad, good))
            equal(status, 200, "status")
            partial = json.loads(body)["partialSuccess"]
            equal(int(partial["rejectedSpans"]), 1, "rejected")
            check(partial["errorMessage"], "no sentence")
        equal(get(server.url(f"/api/traces/{good['traceId']}"))["data"][0]["spans"][0]["spanID"], good["spanId"], "the good span")
        m = server.metrics()
        equal(sum(v for k, v in m.items() if k.startswith("lymer_spans_rejected_total")), 5, "rejected in /metrics")
        alive(server)


@scenario
def odd_values_are_kept():
    with Server(memory=True) as server:
        odd = [
            span(startTimeUnixNano=str(time.time_ns()), endTimeUnixNano="5"),
            span(startTimeUnixNano="0", endTimeUnixNano="0"),
            span(startTimeUnixNano=str(2**64 - 1), endTimeUnixNano=str(2**64 - 1)),
            span(startTimeUnixNano="0", endTimeUnixNano=str(2**64 - 1)),
            span(attributes=[{"key": f"k{i}", "value": {"intValue": str(i)}} for i in range(10_000)]),
            span(attributes=[{"key": "nul\u0000key", "value": {"stringValue": "a\u0000b"}}]),
            span(name=""),
        ]
        for s in odd:
            equal(send(server, message(s))[0], 200, "status")
            back = get(server.url(f"/api/traces/{s['traceId']}"))["data"][0]["spans"][0]
            equal(back["spanID"], s["spanId"], "span")
            if len(s.get("attributes", [])) == 10_000:
                equal(len([t for t in back["tags"] if t["key"].startswith("k")]), 10_000, "attributes")
        alive(server)


@scenario
def too_much_is_refused():
    with Server(memory=True) as server:
        deep = '{"arrayValue":{"values":[' * 1000 + '{"stringValue":"x"}' + "]}}" * 1000
        good = span()
        text = json.dumps(message(span(attributes=[{"key": "deep", "value": "DEEP"}]), good)).replace('"DEEP"', deep)
        status, body, _ = send(server, text.encode())
        check(status in (200, 400), status, body)
        if status == 200:
            equal(int(json.loads(body)["partialSuccess"]["rejectedSpans"]), 1, "rejected")
        status, body, _ = send(server, message(span(attributes=[{"key": "k" * (1 << 20), "value": {"intValue": "1"}}])))
        check(status == 200 and int(json.loads(body)["partialSuccess"]["rejectedSpans"]) == 1, status, body)
        alive(server)


@scenario
def too_many_keys_are_refused():
    """A request may bring 65,536 different keys; a block that would have too many columns is built early."""
    def named(first, count):
        return span(attributes=[{"key": f"key.{i}", "value": {"intValue": "1"}} for i in range(first, first + count)])

    with Server() as server:
        many = message(*(named(i, 1000) for i in range(0, 70_000, 1000)))
        status, body, _ = send(server, many)
        partial = json.loads(body)["partialSuccess"]
        equal([status, int(partial["rejectedSpans"])], [200, 5], partial)
        check("different attribute keys" in partial["errorMessage"], partial)
        status, body, _ = send(server, message(*(named(i, 1000) for i in range(70_000, 130_000, 1000))))
        equal([status, json.loads(body)["partialSuccess"]], [200, {}], "fits again")
        until(lambda: server.metrics()["lymer_memtables_many_keys_total"] == 1, what="a block is built early")
        m = server.metrics()
        equal(m['lymer_spans_rejected_total{reason="keys"}'], 5, "rejected in /metrics")
        for key, there in (("key.64999", 1), ("key.65999", 0), ("key.129999", 1)):
            found = get(server.url("/api/traces"), {"service": "bad", "tags": json.dumps({key: "1"})})["data"]
            equal(len(found), there, key)
        alive(server)


def rpc_status(body):
    """google.rpc.Status as Google's own classes read it: code, message, names of the details."""
    script = ("import sys; from google.rpc import status_pb2 as s, error_details_pb2; x = s.Status.FromString(sys.stdin.buffer.read());"
              "import json; json.dump([x.code, x.message, [d.type_url for d in x.details]], sys.stdout)")
    return json.loads(run(VENV_PYTHON, "-c", script, input=body).stdout)


@scenario
def refusals_of_http_are_statuses():
    """What is refused before OTLP sees it (too large, damaged, no room) speaks the request's encoding."""
    zipped = {"Content-Encoding": "gzip"}
    large = b" " * ((64 << 20) + 1)
    with Server("--otlp-http-cors-origins", "*", memory=True) as server:
        for status, code, body, headers in ((413, 8, large, {}), (413, 8, gzip.compress(large), zipped), (400, 3, b"junk", zipped),
                                            (415, 3, b"{}", {"Content-Encoding": "br"})):
            got, answer, head = send(server, body, "application/x-protobuf", headers=headers)
            equal([got, head["Content-Type"]], [status, "application/x-protobuf"], "protobuf refusal")
            number, sentence, details = rpc_status(answer)
            equal([number, details], [code, []], sentence)
            got, answer, head = send(server, body, "application/json; charset=utf-8", headers={**headers, "Origin": "http://app.example"})
            equal([got, head["Content-Type"], head["Access-Control-Allow-Origin"]], [status, "application/json", "*"], "JSON refusal")
            equal(json.loads(answer), {"code": code, "message": sentence}, "the same in JSON")
            check(len(sentence) > 20, "a sentence", sentence)
        got, answer, head = send(server, large, "text/plain", path="/elsewhere")
        equal([got, head["Content-Type"]], [413, "text/plain; charset=utf-8"], "not OTLP")
    with Server("--max-memory", "256MiB", memory=True) as server:  # a quarter of it for bodies
        with socket.create_connection(("127.0.0.1", server.port("otlp"))) as holder:
            holder.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 67108864\r\n\r\n" + large[:60 << 20])
            got, answer, head = until(lambda: (r := send(server, large[:20 << 20], "application/x-protobuf"))[0] == 503 and r, what="no room")
            equal(head["Retry-After"], "1", "no room")
            number, sentence, details = rpc_status(answer)
            equal([number, details], [14, ["type.googleapis.com/google.rpc.RetryInfo"]], sentence)
        until(lambda: send(server, large[:20 << 20], "application/x-protobuf")[0] == 200, what="room again")
        alive(server)


@scenario
def bombs_and_damage():
    with Server(memory=True) as server:
        bomb = gzip.compress(b"\0" * (200 << 20))
        status, body, _ = send(server, bomb, "application/x-protobuf", headers={"Content-Encoding": "gzip"})
        equal(status, 413, "gzip bomb")
        for encoding, body in (("gzip", b"\x1f\x8b" + b"junk" * 20), ("zstd", b"(\xb5/\xfdjunk"), ("deflate", b"junk"), ("gzip", b"")):
            status, _, _ = send(server, body or b"\x1f", "application/x-protobuf", headers={"Content-Encoding": encoding})
            equal(status, 400, f"damaged {encoding}")
        equal(send(server, b"{}", headers={"Content-Encoding": "br"})[0], 415, "unknown encoding")
        for time_text in ("-1", str(2**64), "x", "1.5"):
            equal(send(server, message(span(startTimeUnixNano=time_text)))[0], 400, f"time {time_text}")
        for kind, body in (("application/x-protobuf", b"\x0a\xff\xff\xff\x7f"), ("application/json", b"{\"resourceSpans\":["),
                           ("application/json", b"\xff\xfe"), ("application/x-protobuf", b"\x0a\x05abc")):
            status, answer, headers = send(server, body, kind)
            equal(status, 400, f"damaged {kind}")
            equal(headers["Content-Type"].split(";")[0], kind, "answered in kind")
            check(answer, "no google.rpc.Status")
        status, body, headers = send(server, b"x", "text/plain")
        equal([status, body.decode().strip()], [415, "415 unsupported media type, supported: [application/json, application/x-protobuf]"], "type")
        status, body, _ = request("GET", server.url("/v1/traces", "otlp"))
        equal([status, body.decode().strip()], [405, "405 method not allowed, supported: [POST]"], "method")
        for path in ("/v1/metrics", "/v1/logs"):
            status, body, _ = send(server, {}, path=path)
            equal(status, 404, path)
            check(json.loads(body)["message"], path, "no sentence")
        for encoding, pack in (("deflate", zlib.compress), ("gzip", gzip.compress)):
            trace, m = otlp()
            equal(send(server, pack(json.dumps(m).encode()), headers={"Content-Encoding": encoding})[0], 200, encoding)
            equal(len(get(server.url(f"/api/traces/{trace}"))["data"]), 1, encoding)
        check(sum(v for k, v in server.metrics().items() if k.startswith("lymer_requests_bad_total")) >= 12, "bad requests are not counted")
        alive(server)


def raw(port, data, wait=True, seconds=20):
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        out = b""
        try:
            while wait and (chunk := s.recv(65536)):
                out += chunk
        except ConnectionError:
            pass
        return out


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


@scenario
def any_bytes_to_any_port():
    with Server(memory=True) as server:
        for name in ("grpc", "otlp", "query", "admin", "health"):
            port = server.port(name)
            for data in (b"\0" * 64, os.urandom(500), b"GET", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n",
                         b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
                         b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
                         b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200_000 + b"\r\n\r\n",
                         b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
                         b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", PREFACE, PREFACE + os.urandom(300),
                         PREFACE + frame(4, 0, 0) + frame(1, 4, 1, b"\xff" * 30), PREFACE + frame(4, 0, 0, b"x" * 5)):
                raw(port, data)
        alive(server)


@scenario
def http2_floods_end_the_connection():
    with Server(memory=True) as server:
        settings = frame(4, 0, 0)
        # :method POST, :scheme http, :path /, :authority x: from the static table
        head = b"\x83\x86\x84\x41\x01x"
        floods = {
            "rapid reset": b"".join(frame(1, 4, 1 + 2 * i, head) + frame(3, 0, 1 + 2 * i, b"\0\0\0\x08") for i in range(20_000)),
            "ping": frame(6, 0, 0, b"x" * 8) * 50_000,
            "settings": frame(4, 0, 0, b"\0\x03\0\0\0\x64") * 20_000,
            "continuation": frame(1, 0, 1, head) + frame(9, 0, 1, b"\x40\x01a\x01b" * 100) * 2_000,
            "window": frame(8, 0, 0, b"\x7f\xff\xff\xff") * 10,
            "empty data": frame(1, 4, 1, head) + frame(0, 0, 1) * 50_000,
            "priority": frame(2, 0, 1, b"\0\0\0\0\x10") * 100_000,
        }
        for name, data in floods.items():
            for port in ("grpc", "otlp"):
                begun = time.monotonic()
                raw(server.port(port), PREFACE + settings + data)
                check(time.monotonic() - begun < 15, name, "took too long")
        alive(server)
        check(server.process.poll() is None, "server ended")


@scenario
def idle_and_slow_connections_cost_little():
    with Server(memory=True) as server:
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
        socks = [socket.create_connection(("127.0.0.1", server.port("otlp" if i % 2 else "grpc"))) for i in range(5_000)]
        for i, s in enumerate(socks[:200]):
            s.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Le"[: i % 40 + 1])
        alive(server)
        rss = int(next(line for line in open(f"/proc/{server.process.pid}/status") if line.startswith("VmRSS")).split()[1])
        check(rss < 60_000, "resident KiB with 5,000 idle connections:", rss)
        for s in socks:
            s.close()
        until(lambda: server.metrics()["lymer_connections_open"] < 100, 30, "connections closed")
        alive(server)
        print(f"# 5,000 idle connections: {rss} KiB resident")


@scenario
def clients_that_do_not_read_cost_only_themselves():
    with Server(memory=True) as server:
        lymer("load", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", "--traces", "1000")
        slow = []
        for _ in range(20):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", server.port("query")))
            s.sendall(b"GET /api/traces?service=gateway&limit=1000&start=0 HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.append(s)
        for s in slow:
            s.settimeout(20)
            check(s.recv(1), "no answer begun")
        check(len(request("GET", server.url("/api/services"), timeout=10)[1]) > 50, "services beside slow readers")
        alive(server)
        for s in slow:
            s.close()


@scenario
def what_cannot_start_says_why():
    with Server() as server:
        done = run(LYMER, "serve", "--data", server.data, "--port-offset", str(server.offset + 1), ok=False)
        equal(done.returncode, 2, "locked directory")
        check(b"\n" not in done.stderr.strip() and done.stderr.strip(), done.stderr)
        done = run(LYMER, "serve", "--memory", "--port-offset", str(server.offset), ok=False)
        equal(done.returncode, 2, "port in use")
        check(b"--" in done.stderr and any(str(server.port(n)).encode() in done.stderr for n in ("grpc", "otlp", "query", "admin", "health")), done.stderr)
        alive(server)
    done = run(LYMER, "serve", "--data", "/proc/nowhere", "--port-offset", "1234", ok=False)
    equal(done.returncode, 2, "unwritable directory")
    done = run(LYMER, "serve", "--no-such-flag", ok=False)
    equal(done.returncode, 2, "unknown flag")


@scenario
def stopping_is_clean():
    with Server() as server:
        trace, m = otlp(spans=5)
        equal(send(server, m)[0], 200, "send")
        server.stop()
        done = lymer("verify", server.data)
        check(b"ok" in done.stdout, done.stdout)
        with Server(data=server.data) as again:
            equal(len(get(again.url(f"/api/traces/{trace}"))["data"][0]["spans"]), 5, "spans after a clean stop")
            again.stop()
