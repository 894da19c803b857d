# SPDX-License-Identifier: Apache-2.0
"""Spans stay whole: what was sent is what is exported, before blocks are merged, after it, and from another store that imported it."""
import base64
import json
import os
import random
import struct
import tempfile

from lib import Server, check, equal, lymer, scenario, send, until, whole_spans

ROUNDS = 6
WHOLE = "whole-"  # how services of our own spans are called
U64_MAX = 2**64 - 1


class Maker:
    """Spans that hold every kind of value at every edge, in the form in which lymer exports them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.traces = [self.random.randbytes(16).hex() for _ in range(40)]  # each is met again in other rounds, so in other blocks

    def text(self):
        r = self.random
        return r.choice(["", "a", "GET", "true", "1", "0x1F", "-0", "007", "1.50", "[1]", '{"a":1}', " ", "\x00", "a\x00b", "\\\"\n\r\t\x7f\x1b",
                         "한국어 漢字 🐕", "\u2028\ufeff\ufffd", "x" * r.randrange(5000), "2026-01-01T00:00:00Z",
                         f"{r.getrandbits(128):032x}", f"{r.getrandbits(64):016X}", str(r.getrandbits(64)), str(r.random()),
                         "5a90d793-380f-4b4f-8c2f-c5417eb9d43c", f"/users/{r.randrange(10**6)}/cart?id={r.getrandbits(40):x}"])

    def double(self):
        r = self.random
        special = [0.0, -0.0, 1.0, 0.1, 1 / 3, 1e22, 1e-7, 2.0**53 + 2, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -1.5]
        value = r.choice([*special, r.random(), struct.unpack("d", r.randbytes(8))[0], "NaN", "Infinity", "-Infinity"])
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            return "NaN"
        return value

    def integer(self):
        r = self.random
        return str(r.choice([0, 1, -1, 42, 2**31, 2**53 - 1, 2**53 + 1, 2**63 - 1, -2**63, r.getrandbits(63) >> r.randrange(63)]))

    def value(self, depth=0):
        r = self.random
        kind = r.randrange(6 if depth > 3 else 8)
        return [lambda: {"stringValue": self.text()}, lambda: {"boolValue": r.random() < 0.5}, lambda: {"intValue": self.integer()},
                lambda: {"doubleValue": self.double()}, lambda: {},
                lambda: {"bytesValue": base64.b64encode(r.randbytes(r.choice([0, 1, 2, 3, 200]))).decode()},
                lambda: {"arrayValue": {"values": [self.value(depth + 1) for _ in range(r.randrange(4))]}},
                lambda: {"kvlistValue": {"values": self.attributes(r.randrange(4), depth + 1)}}][kind]()

    def attributes(self, n, depth=0):
        """Keys repeat among spans with values of other types, and within a span."""
        return [{"key": self.random.choice(["", "k", "http.route", "a\x00", "é", f"key-{self.random.randrange(50)}"]), "value": self.value(depth)}
                for _ in range(n)]

    def time(self):
        return str(self.random.choice([1, U64_MAX, 2**63, 1_767_225_600_000_000_000 + self.random.getrandbits(50), self.random.getrandbits(64)]))

    def some(self, fields):
        """Of the fields those with a value that is not the default, and not always: how protobuf leaves them out."""
        return {k: v for k, v in fields.items() if v not in ("", 0, "0", [], {}) and self.random.random() < 0.7}

    def u32(self):
        return self.random.choice([0, 1, 2**31, 2**32 - 1])

    def state(self):
        return self.random.choice(["", "vendor=a:1,other=2", "k=" + "v" * 300])

    def span(self):
        r = self.random
        return {"traceId": r.choice(self.traces), "spanId": f"{r.getrandbits(r.choice([4, 64])) | 1:016x}", "name": self.text(), "startTimeUnixNano": self.time(),
                "endTimeUnixNano": self.time(),
                **self.some({"kind": r.randrange(6), "parentSpanId": f"{r.getrandbits(64) | 1:016x}", "traceState": self.state(), "flags": self.u32(),
                             "attributes": self.attributes(r.choice([0, 1, 5, 30])), "droppedAttributesCount": self.u32(),
                             "droppedEventsCount": self.u32(), "droppedLinksCount": self.u32(), "status": self.some({"code": r.randrange(3), "message": self.text()}),
                             "events": [{"timeUnixNano": self.time(), "name": self.text(), **self.some({"attributes": self.attributes(3), "droppedAttributesCount": self.u32()})}
                                        for _ in range(r.randrange(4))],
                             "links": [{"traceId": f"{r.getrandbits(128):032x}", "spanId": f"{r.getrandbits(64):016x}",
                                        **self.some({"traceState": self.state(), "flags": self.u32(), "attributes": self.attributes(2), "droppedAttributesCount": self.u32()})}
                                       for _ in range(r.randrange(4))]})}

    def request(self):
        r = self.random
        return {"resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": f"{WHOLE}{r.randrange(5)}"}}, *self.attributes(3)],
                         **self.some({"droppedAttributesCount": self.u32()})},
            **self.some({"schemaUrl": "https://opentelemetry.io/schemas/1.26.0"}),
            "scopeSpans": [{"scope": self.some({"name": self.text(), "version": "1.2", "attributes": self.attributes(2), "droppedAttributesCount": self.u32()}),
                            **self.some({"schemaUrl": self.text()}), "spans": [self.span() for _ in range(r.randrange(1, 12))]} for _ in range(2)]} for _ in range(3)]}


def same(got, want, what):
    if got != want:
        lost, new = sorted(set(want) - set(got)), sorted(set(got) - set(want))
        check(False, what, f": {len(got)} spans, not {len(want)}; {len(lost)} are not there, such as\n {lost[:1]}\nand {len(new)} are new, such as\n {new[:1]}")


def exported(*where):
    """The document, and its spans whole."""
    text = lymer("export", *where).stdout
    return text, whole_spans(text.splitlines())


def blocks_of(data):
    return set(os.listdir(os.path.join(data, "blocks")))


def merge_all(data):
    """Serves until as good as every block of before was merged: of each of two sizes fewer are left than make one (8)."""
    before = blocks_of(data)
    check(len(before) > 30, "blocks", len(before))
    with Server("--compact.cpu-percent=100", data=data) as s:
        until(lambda: len(before & blocks_of(data)) <= 14 and not s.metrics()["lymer_compaction_backlog_blocks"], 60, "the end of merging")
        m = s.metrics()
        check(m["lymer_compactions_failed_total"] == 0, "merges failed")
        print(f"# {len(before)} blocks became {m['lymer_blocks']:.0f} in {m['lymer_compactions_total']:.0f} merges, {m['lymer_compacted_spans_total']:.0f} spans rewritten")
        served = exported("--url", s.url())
        s.stop()
    return served


@scenario
def spans_stay_whole_through_merging_export_and_import():
    seed = int(os.environ.get("LYMER_TEST_SEED", random.getrandbits(32)))
    print(f"# seed {seed}")
    maker, rich = Maker(seed), []
    with tempfile.TemporaryDirectory(prefix="lymer-e2e-") as d:
        data, file = os.path.join(d, "one"), os.path.join(d, "all.jsonl")
        with Server("--memtable=128KiB", "--compact.cpu-percent=0", data=data) as one:
            for i in range(ROUNDS):
                lymer("load", "--endpoint", f"grpc://127.0.0.1:{one.port('grpc')}", "--traces", "60", "--seed", f"{seed + i}", "--errors", "20")
                for _ in range(8):
                    message = maker.request()
                    rich.append(json.dumps(message))
                    status, body, _ = send(one, message)
                    equal([status, json.loads(body)], [200, {"partialSuccess": {}}], "send")
            one.stop()
        _, before = exported("--data", data)
        same([s for s in before if WHOLE in s], whole_spans(rich), "export of what was sent")
        check(len(before) > len(rich) + ROUNDS * 1000, "with the load there are", len(before))

        served, after = merge_all(data)
        same(after, before, "export of what was merged")
        check(sorted(lymer("export", "--data", data).stdout.splitlines()) == sorted(served.splitlines()), "of the directory and of its server")
        with open(file, "wb") as f:
            f.write(served)
        with Server() as two:
            lymer("import", file, "--endpoint", two.url("/v1/traces", "otlp"))
            same(exported("--url", two.url())[1], before, "export of the import")
        lymer("import", file, "--data", os.path.join(d, "three"))
        same(exported("--data", os.path.join(d, "three"))[1], before, "export of the import into a directory")
