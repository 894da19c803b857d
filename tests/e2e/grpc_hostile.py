# SPDX-License-Identifier: Apache-2.0
"""What no gRPC library would send, frame by frame: grpc_hostile.py PORT."""
import gzip
import random
import socket
import sys

import h2.config
import h2.connection
import h2.events

PORT = int(sys.argv[1])
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def check(truth, *said):
    if not truth:
        sys.exit("failed: " + " ".join(str(s) for s in said))


def message(body, flag=0, length=None):
    return bytes([flag]) + (len(body) if length is None else length).to_bytes(4, "big") + body


class Client:
    def __init__(self):
        self.sock = socket.create_connection(("127.0.0.1", PORT), timeout=20)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.flush()
        self.seen = {}  # stream → {"headers", "data", "reset", "end"}

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def open(self, path=EXPORT, end=False, **headers):
        stream = self.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "content-type": "application/grpc",
                  "te": "trailers", **{k.replace("_", "-"): v for k, v in headers.items()}}
        self.seen[stream] = {"headers": {}, "data": b"", "reset": None, "end": False}
        self.h2.send_headers(stream, list(fields.items()), end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=False, pieces=16384):
        for at in range(0, max(len(data), 1), pieces):
            part = data[at:at + pieces]
            while self.h2.local_flow_control_window(stream) < len(part):
                if self.over(stream):
                    return
                self.pump()
            if self.over(stream):
                return
            self.h2.send_data(stream, part, end_stream=end and at + pieces >= len(data))
            self.flush()

    def over(self, stream):
        s = self.seen[stream]
        return s["end"] or s["reset"] is not None

    def pump(self):
        data = self.sock.recv(65536)
        check(data, "the server closed the connection")
        for e in self.h2.receive_data(data):
            s = self.seen.get(getattr(e, "stream_id", None))
            if s is None:
                continue
            if isinstance(e, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                s["headers"].update({(k if isinstance(k, str) else k.decode()): (v if isinstance(v, str) else v.decode()) for k, v in e.headers})
            elif isinstance(e, h2.events.DataReceived):
                s["data"] += e.data
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.StreamEnded):
                s["end"] = True
            elif isinstance(e, h2.events.StreamReset):
                s["reset"] = e.error_code
        self.flush()

    def answer(self, stream):
        while not self.over(stream):
            self.pump()
        return self.seen[stream]

    def close(self):
        self.sock.close()


def expect(what, answer, status, words=""):
    h = answer["headers"]
    check(h.get("grpc-status") == str(status), what, answer)
    check(words in h.get("grpc-message", ""), what, answer)


def flags_lengths_and_encodings():
    c = Client()
    cases = [
        ("flag 2", message(b"x", flag=2), {}, 13, "flag 2"),
        ("flag 255", message(b"x", flag=255), {}, 13, "flag 255"),
        ("compressed without encoding", message(gzip.compress(b""), flag=1), {}, 13, "grpc-encoding"),
        ("compressed with identity", message(gzip.compress(b""), flag=1), {"grpc_encoding": "identity"}, 13, "grpc-encoding"),
        ("unknown encoding", message(b"x", flag=1), {"grpc_encoding": "br"}, 12, "br"),
        ("not gzip", message(b"garbage", flag=1), {"grpc_encoding": "gzip"}, 13, "gzip"),
        ("half a gzip", message(gzip.compress(b"x" * 1000)[:-9], flag=1), {"grpc_encoding": "gzip"}, 13, "gzip"),
        ("a bomb", message(gzip.compress(b"\0" * (80 << 20)), flag=1), {"grpc_encoding": "gzip"}, 8, "limit"),
        ("4 GiB", message(b"", length=0xFFFFFFFF), {}, 8, "limit"),
        ("longer than sent", message(b"abc", length=5), {}, 13, "within"),
        ("half a prefix", b"\0\0", {}, 13, "within"),
        ("nothing", b"", {}, 13, "no message"),
        ("two", message(b"") * 2, {}, 13, "more than one"),
        ("bad timeout", message(b""), {"grpc_timeout": "soon"}, 13, "timeout"),
        ("no time", message(b""), {"grpc_timeout": "0n"}, 4, "deadline"),
        ("empty", message(b""), {}, 0, ""),
        ("empty by the byte", message(b""), {"pieces": 1}, 0, ""),
    ]
    for what, data, headers, status, words in cases:
        pieces = headers.pop("pieces", 16384)
        s = c.open(**headers)
        c.send(s, data, end=True, pieces=pieces)
        answer = c.answer(s)
        expect(what, answer, status, words)
        if what == "unknown encoding":
            check("gzip" in answer["headers"].get("grpc-accept-encoding", ""), answer)
    for kind in ("application/grpc-web", "application/grpc+json", "application/json", "text/plain"):
        s = c.open(end=True, content_type=kind)
        check(c.answer(s)["headers"].get(":status") == "415", kind, c.seen[s])
    for path in ("/", "//", "/a", "/a/b/c", "/" + "x" * 4000, EXPORT + "/", EXPORT.lower()):
        s = c.open(path=path, end=True)
        expect(path[:40], c.answer(s), 12)
    c.close()


def early_answers_stop_the_client():
    c = Client()
    s = c.open(path="/no.Such/Method")
    answer = c.answer(s)
    expect("early", answer, 12)
    s = c.open()
    c.send(s, message(b"x", flag=9) + b"y" * 5000)
    expect("early bad flag", c.answer(s), 13)
    s = c.open()
    c.send(s, message(b""), end=True)
    expect("the connection lives on", c.answer(s), 0)
    c.close()


def streams_cut_everywhere():
    """Resets and closed connections at every moment of a call."""
    chance = random.Random(7)
    for _ in range(60):
        c = Client()
        for _ in range(30):
            s = c.open(path=chance.choice((EXPORT, REFLECT, "/grpc.health.v1.Health/Watch")))
            data = message(b"\x3a\x00") if chance.random() < 0.5 else message(b"", length=chance.randrange(1 << 20))
            cut = chance.randrange(len(data) + 1)
            c.send(s, data[:cut], end=chance.random() < 0.3)
            if chance.random() < 0.5 and not c.over(s):
                try:
                    c.h2.reset_stream(s, chance.choice((0, 2, 7, 8)))
                    c.flush()
                except Exception:
                    pass
        c.close()


def a_reader_that_never_reads():
    """Thousands of reflection requests whose answers nobody takes: the server stops reading, not growing."""
    c = Client()
    s = c.open(path=REFLECT)
    name = b"opentelemetry.proto.collector.trace.v1.TraceService"
    ask = message(b"\x22" + bytes([len(name)]) + name)
    sent = 0
    c.sock.settimeout(2)
    try:
        for _ in range(400):
            window = c.h2.local_flow_control_window(s)
            part = (ask * 1000)[:min(16384, window)]
            if not part:
                break
            c.h2.send_data(s, part)
            c.flush()
            sent += len(part)
    except OSError:
        pass
    check(sent < (3 << 20), "took", sent, "bytes of requests without an end")
    c.close()


for step in (flags_lengths_and_encodings, early_answers_stop_the_client, streams_cut_everywhere, a_reader_that_never_reads):
    step()
    print("ok -", step.__name__, flush=True)
