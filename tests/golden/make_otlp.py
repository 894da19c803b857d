#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes otlp.txt beside itself: OTLP traces as the reference implementation (opentelemetry-proto on protobuf, from PyPI)
serializes and parses them. Run by hand when a field is added: python3 tests/golden/make_otlp.py

A case is a few lines and ends with an empty one:
  case NAME
  pb HEX         an ExportTraceServiceRequest to decode, or
  in JSON        the same as JSON
  rejected N     spans that are not kept (0 when absent)
  error NAME     decoding fails so; otherwise what is kept must encode to
  json JSON      canonical OTLP/JSON, and to
  out HEX        canonical protobuf ("pb": the input itself)
  same NAME      instead of both: as an earlier case
tests/unit/codec/otlp_golden.c runs them."""
import base64
import json
import math
import os

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest as Request
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

TRACE_ID, SPAN_ID = bytes(range(1, 17)), bytes(range(21, 29))
HEX_MEMBERS = ("traceId", "spanId", "parentSpanId")
lines = []
seen = {}


# --- canonical forms ---

def fix_json(x, name=None):
    """What OTLP/JSON does differently from protobuf's JSON, and doubles as ECMAScript writes them."""
    if isinstance(x, dict):
        return {k: fix_json(v, k) for k, v in x.items()}
    if isinstance(x, list):
        return [fix_json(v) for v in x]
    if name in HEX_MEMBERS:
        return base64.b64decode(x).hex()
    if isinstance(x, float) and x == int(x) and abs(x) < 1e21:
        return int(x)
    return x


def keep(span):
    return len(span.trace_id) == 16 and any(span.trace_id) and len(span.span_id) == 8 and any(span.span_id)


def canonical(request):
    """The request as the model keeps it; returns it and how many spans were rejected."""
    out, rejected = Request(), 0
    for rs in request.resource_spans:
        kept = []
        for ss in rs.scope_spans:
            spans = [s for s in ss.spans if keep(s)]
            rejected += len(ss.spans) - len(spans)
            if spans:
                kept.append((ss, spans))
        if not kept:
            continue
        to = out.resource_spans.add(schema_url=rs.schema_url)
        to.resource.SetInParent()
        to.resource.attributes.extend(rs.resource.attributes)
        to.resource.dropped_attributes_count = rs.resource.dropped_attributes_count
        for ss, spans in kept:
            group = to.scope_spans.add(schema_url=ss.schema_url)
            group.scope.CopyFrom(ss.scope)
            group.spans.extend(spans)
            for s in group.spans:
                if not 0 <= s.kind <= 5:
                    s.kind = 0
                if not 0 <= s.status.code <= 2:
                    s.status.code = 0
                if not s.status.ByteSize():
                    s.ClearField("status")
                if len(s.parent_span_id) != 8 or not any(s.parent_span_id):
                    s.parent_span_id = b""
                for link in s.links:
                    if len(link.trace_id) != 16 or not any(link.trace_id):
                        link.trace_id = b""
                    if len(link.span_id) != 8 or not any(link.span_id):
                        link.span_id = b""
    out.DiscardUnknownFields()
    for message in walk(out):
        if isinstance(message, KeyValue):
            message.value.SetInParent()
            message.ClearField("key_strindex")
        if isinstance(message, AnyValue):
            message.ClearField("string_value_strindex")
    return out, rejected


def walk(message):
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for m in value if field.is_repeated else [value]:
                yield from walk(m)


def to_json(request):
    copy = Request()
    copy.CopyFrom(request)
    for rs in copy.resource_spans:
        for ss in rs.scope_spans:
            ss.scope.SetInParent()
            for s in ss.spans:
                s.status.SetInParent()
    d = MessageToDict(copy, use_integers_for_enums=True)
    text = json.dumps(fix_json(d) or {"resourceSpans": []}, separators=(",", ":"), ensure_ascii=False)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


# --- cases ---

def emit(name, pb=None, json_in=None, expect=None, error=None, rejected=None):
    """expect: a Request, by default what the reference parser makes of pb."""
    lines.append(f"case {name}")
    lines.append(f"pb {pb.hex()}" if json_in is None else f"in {json_in}")
    if error:
        if pb is not None:
            try:
                Request.FromString(pb)
                raise SystemExit(f"{name}: the reference accepts this")
            except Exception as e:
                if "DecodeError" not in type(e).__name__:
                    raise
        lines.append(f"error {error}")
    else:
        expect, bad = canonical(Request.FromString(pb) if expect is None else expect)
        lines.append(f"rejected {bad if rejected is None else rejected}")
        out = expect.SerializeToString(deterministic=True)
        if out in seen:
            lines.append(f"same {seen[out]}")
        else:
            seen[out] = name
            lines.append(f"json {to_json(expect)}")
            lines.append(f"out {'pb' if out == pb else out.hex()}")
    lines.append("")


def request_with(**span):
    r = Request()
    s = r.resource_spans.add().scope_spans.add().spans.add(trace_id=TRACE_ID, span_id=SPAN_ID)
    for k, v in span.items():
        if isinstance(v, (list, tuple)):
            getattr(s, k).extend(v)
        elif hasattr(v, "CopyFrom"):
            getattr(s, k).CopyFrom(v)
        else:
            setattr(s, k, v)
    return r


def span_of(r):
    return r.resource_spans[0].scope_spans[0].spans[0]


def kv(key, **value):
    return KeyValue(key=key, value=AnyValue(**value))


def array(*values):
    return AnyValue(array_value=ArrayValue(values=values))


def nested(depth):
    v = AnyValue(string_value="x")
    for i in range(depth):
        v = array(v) if i % 2 else AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=v)]))
    return v


VALUES = {
    "string": AnyValue(string_value="v"), "empty string": AnyValue(string_value=""),
    "unicode": AnyValue(string_value="h\u00e9 \u20ac \U0001f600 \u2028\u2029 \x00\x01\x1f\x7f\"\\/<>&\b\f\n\r\t"),
    "long string": AnyValue(string_value="x" * 127), "longer string": AnyValue(string_value="y" * 128),
    "longest string": AnyValue(string_value="z" * 300),
    "true": AnyValue(bool_value=True), "false": AnyValue(bool_value=False),
    "zero": AnyValue(int_value=0), "one": AnyValue(int_value=1), "minus one": AnyValue(int_value=-1),
    "int max": AnyValue(int_value=2**63 - 1), "int min": AnyValue(int_value=-2**63),
    "double": AnyValue(double_value=0.1), "double zero": AnyValue(double_value=0.0),
    "double whole": AnyValue(double_value=5.0), "double big": AnyValue(double_value=1e21),
    "double tiny": AnyValue(double_value=5e-324), "double max": AnyValue(double_value=1.7976931348623157e308),
    "nan": AnyValue(double_value=math.nan), "inf": AnyValue(double_value=math.inf),
    "minus inf": AnyValue(double_value=-math.inf),
    "bytes": AnyValue(bytes_value=bytes(range(250, 256)) + b"\x00"), "no bytes": AnyValue(bytes_value=b""),
    "empty": AnyValue(),
    "array": array(AnyValue(string_value="a"), AnyValue(int_value=2), AnyValue(bool_value=True),
                   AnyValue(double_value=0.5), AnyValue(bytes_value=b"b"), AnyValue()),
    "empty array": array(), "nested array": array(array(), array(AnyValue(int_value=1))),
    "map": AnyValue(kvlist_value=KeyValueList(values=[kv("a", int_value=1), kv("", string_value="x"),
                                                      kv("b", bool_value=False)])),
    "empty map": AnyValue(kvlist_value=KeyValueList()),
    "big array": array(*[AnyValue(string_value="s")] * 60),
    "deepest": nested(32),
}


def full_request():
    r = Request()
    rs = r.resource_spans.add(schema_url="https://opentelemetry.io/schemas/1.44.0")
    rs.resource.attributes.append(kv("service.name", string_value="cart"))
    rs.resource.attributes.extend(KeyValue(key=k, value=v) for k, v in VALUES.items() if v.ByteSize() < 200)
    rs.resource.dropped_attributes_count = 3
    ss = rs.scope_spans.add(schema_url="https://example.com/scope")
    ss.scope.name, ss.scope.version, ss.scope.dropped_attributes_count = "lib", "1.2", 4
    ss.scope.attributes.append(kv("scope", bool_value=True))
    s = ss.spans.add(trace_id=TRACE_ID, span_id=SPAN_ID, trace_state="a=1,b=2", parent_span_id=bytes(range(31, 39)),
                     flags=0x301, name="GET /", kind=2, start_time_unix_nano=1790000000000000001,
                     end_time_unix_nano=2**64 - 1, dropped_attributes_count=5, dropped_events_count=6,
                     dropped_links_count=2**32 - 1)
    s.attributes.extend([kv("k", string_value="v"), kv("k", int_value=7), kv("d", double_value=2.5)])
    e = s.events.add(time_unix_nano=1, name="exception", dropped_attributes_count=7)
    e.attributes.append(kv("exception.type", string_value="E"))
    s.events.add()
    li = s.links.add(trace_id=TRACE_ID, span_id=SPAN_ID, trace_state="x=y", dropped_attributes_count=8, flags=1)
    li.attributes.append(kv("link", bytes_value=b"\x01"))
    s.links.add()
    s.status.message, s.status.code = "boom", 2
    ss.spans.add(trace_id=TRACE_ID, span_id=bytes(range(41, 49)), name="GET /")
    rs.scope_spans.add().spans.add(trace_id=TRACE_ID, span_id=bytes(range(51, 59)))
    r.resource_spans.add().scope_spans.add().spans.add(trace_id=TRACE_ID, span_id=bytes(range(61, 69)), kind=5)
    return r


def each_field():
    emit("minimal", request_with().SerializeToString())
    for field, value in {
            "trace_state": "a=b", "parent_span_id": SPAN_ID, "flags": 0x101, "name": "n", "kind": 3,
            "start_time_unix_nano": 1, "end_time_unix_nano": 2**64 - 1, "dropped_attributes_count": 2**32 - 1,
            "dropped_events_count": 1, "dropped_links_count": 128}.items():
        emit(f"span.{field}", request_with(**{field: value}).SerializeToString())
    for name, v in VALUES.items():
        emit(f"value {name}", request_with(attributes=[KeyValue(key="k", value=v)]).SerializeToString())
    emit("value absent", request_with(attributes=[KeyValue(key="k")]).SerializeToString())
    emit("key absent", request_with(attributes=[kv("", int_value=1)]).SerializeToString())
    emit("long key", request_with(attributes=[kv("k" * 300, int_value=1)]).SerializeToString())
    for lst, fields in {
            "events": {"time_unix_nano": 5, "name": "e", "attributes": [kv("k", int_value=1)],
                       "dropped_attributes_count": 9},
            "links": {"trace_id": TRACE_ID, "span_id": SPAN_ID, "trace_state": "t=s",
                      "attributes": [kv("k", int_value=1)], "dropped_attributes_count": 9, "flags": 0x300}}.items():
        for field, value in fields.items():
            r = request_with()
            getattr(span_of(r), lst).add(**{field: value})
            emit(f"{lst}.{field}", r.SerializeToString())
    for field, value in {"message": "m", "code": 1}.items():
        r = request_with()
        setattr(span_of(r).status, field, value)
        emit(f"status.{field}", r.SerializeToString())
    r = request_with()
    r.resource_spans[0].resource.attributes.append(kv("service.name", string_value="s"))
    emit("resource.attributes", r.SerializeToString())
    r = request_with()
    r.resource_spans[0].resource.dropped_attributes_count = 1
    emit("resource.dropped_attributes_count", r.SerializeToString())
    r = request_with()
    r.resource_spans[0].schema_url = "u"
    emit("resource_spans.schema_url", r.SerializeToString())
    r = request_with()
    r.resource_spans[0].scope_spans[0].schema_url = "u"
    emit("scope_spans.schema_url", r.SerializeToString())
    for field, value in {"name": "n", "version": "v", "dropped_attributes_count": 2}.items():
        r = request_with()
        setattr(r.resource_spans[0].scope_spans[0].scope, field, value)
        emit(f"scope.{field}", r.SerializeToString())
    r = request_with()
    r.resource_spans[0].scope_spans[0].scope.attributes.append(kv("k", int_value=1))
    emit("scope.attributes", r.SerializeToString())


# --- raw messages: a tree of (tag, payload), so that anything can be written ---

def varint(v, length=0):
    out = b""
    while v >= 0x80 or len(out) + 1 < length:
        out += bytes([v & 0x7F | 0x80])
        v >>= 7
    return out + bytes([v])


def read_varint(b, at):
    v = shift = 0
    while True:
        v |= (b[at] & 0x7F) << shift
        shift += 7
        at += 1
        if b[at - 1] < 0x80:
            return v, at


def split(b):
    """The fields of a message as raw bytes each."""
    at, fields = 0, []
    while at < len(b):
        start = at
        tag, at = read_varint(b, at)
        if tag & 7 == 0:
            _, at = read_varint(b, at)
        elif tag & 7 == 2:
            n, at = read_varint(b, at)
            at += n
        else:
            at += 8 if tag & 7 == 1 else 4
        fields.append((tag, b[start:at]))
    return fields


def payload(raw):
    tag, at = read_varint(raw, 0)
    _, at = read_varint(raw, at)
    return raw[at:]


def field(tag, content, length=0):
    return varint(tag) + varint(len(content), length) + content


NAMES = {"Request": {1: "ResourceSpans"}, "ResourceSpans": {1: "Resource", 2: "ScopeSpans"},
         "ScopeSpans": {1: "Scope", 2: "Span"}, "Resource": {1: "KeyValue"}, "Scope": {3: "KeyValue"},
         "Span": {9: "KeyValue", 11: "Event", 13: "Link", 15: "Status"}, "Event": {3: "KeyValue"},
         "Link": {4: "KeyValue"}, "Status": {}, "KeyValue": {2: "AnyValue"}, "AnyValue": {}}


def rewrite(b, message, change, length=0):
    """Applies change(message, fields) to every message of the tree, inner first. Arrays and maps are left alone."""
    fields = []
    for tag, raw in split(b):
        sub = NAMES[message].get(tag >> 3)
        if sub and tag & 7 == 2:
            raw = field(tag, rewrite(payload(raw), sub, change, length), length)
        elif length and tag & 7 == 2:
            raw = field(tag, payload(raw), length)
        fields.append((tag, raw))
    return b"".join(raw for _, raw in change(message, fields))


def unusual():
    full = full_request().SerializeToString()
    emit("full", full)
    emit("empty", b"")
    emit("empty resource_spans", bytes.fromhex("0a00"))
    emit("empty scope_spans", bytes.fromhex("0a021200"))
    emit("reversed", rewrite(full, "Request", lambda m, f: f[::-1]))
    emit("lengths in five bytes", rewrite(full, "Request", lambda m, f: f, 5))
    unknown = [varint(1000 << 3) + varint(5), varint(1001 << 3 | 1) + b"12345678", field(1002 << 3 | 2, b"unknown"),
               varint(1003 << 3 | 3) + varint(1 << 3) + b"\x01" + varint(2 << 3 | 3) + varint(2 << 3 | 4) +
               varint(1003 << 3 | 4), varint(1004 << 3 | 5) + b"1234", varint((2**29 - 1) << 3) + b"\x01",
               varint(18 << 3) + varint(2**64 - 1), varint(8 << 3 | 2) + b"\x01x"]
    for i, u in enumerate(unknown[:7]):
        emit(f"unknown field {i}",
             rewrite(full, "Request", lambda m, f: [(0, u)] + [(0, x) for _, raw in f for x in (raw, u)]))
    emit("profiles' string indexes", rewrite(full, "Request", lambda m, f: [
        (0, varint({"AnyValue": 8, "KeyValue": 3}[m] << 3) + b"\x05")] + f if m in ("AnyValue", "KeyValue") else f))
    wrong = {0: b"\x01", 1: b"12345678", 2: b"\x00", 5: b"1234"}
    for wire, content in wrong.items():
        def other(m, f):
            out = []
            for number in range(1, 17):
                known = {t & 7 for t, _ in f if t >> 3 == number}
                if known and wire not in known:
                    out.append((0, varint(number << 3 | wire) + content))
            return out + f + out
        emit(f"wire type {wire} in place of another", rewrite(full, "Request", other))
    emit("every field twice", rewrite(full, "Request", lambda m, f: f + f if m in ("Span", "Status", "Event", "Link")
                                      else f))
    emit("every field of groups twice", rewrite(full, "Request", lambda m, f: f + f
                                                if m in ("ResourceSpans", "ScopeSpans", "Resource", "Scope") else f))
    emit("resource and scope in two parts", rewrite(
        full, "Request", lambda m, f: [x for t, raw in f for x in (
            [(t, field(t, one)) for one in (r for _, r in split(payload(raw)))] or [(t, raw)]
            if m in ("ResourceSpans", "ScopeSpans") and t == 10 else [(t, raw)])]))
    emit("value before key", rewrite(full, "Request", lambda m, f: f[::-1] if m == "KeyValue" else f))
    emit("attributes behind events", rewrite(
        full, "Request", lambda m, f: sorted(f, key=lambda x: -(x[0] >> 3)) if m == "Span" else f))
    emit("attributes around events", rewrite(
        full, "Request", lambda m, f: [x for x in f if x[0] >> 3 != 9] + [x for x in f if x[0] >> 3 == 9][:1]
        if m == "Span" else f))
    emit("scope behind spans", rewrite(full, "Request", lambda m, f: f[1:] + f[:1] if m == "ScopeSpans" else f))
    emit("resource behind scopes", rewrite(full, "Request", lambda m, f: f[1:] + f[:1] if m == "ResourceSpans" else f))
    for v in (6, 2**31 - 1, 2**64 - 1):
        extra = varint(6 << 3) + varint(v) + field(15 << 3 | 2, varint(3 << 3) + varint(v))
        emit(f"enums {v}", rewrite(full, "Request", lambda m, f: f + [(0, extra)] if m == "Span" else f))
    emit("uint32 of 64 bits", rewrite(full, "Request", lambda m, f: f + [(0, varint(10 << 3) + varint(2**40 + 5))]
                                      if m == "Span" else f))
    emit("varints in ten bytes", rewrite(full, "Request", lambda m, f: f + [(0, varint(10 << 3) + varint(5, 10))]
                                         if m == "Span" else f))
    for what, n in (("trace_id", 15), ("trace_id", 17), ("trace_id", 0), ("span_id", 7), ("span_id", 9),
                    ("span_id", 0), ("span_id", 16)):
        r = full_request()
        setattr(span_of(r), what, b"\x01" * n)
        emit(f"{what} of {n} bytes", r.SerializeToString())
    for what in ("trace_id", "span_id"):
        r = full_request()
        setattr(span_of(r), what, bytes(len(getattr(span_of(r), what))))
        emit(f"{what} zero", r.SerializeToString())
    for n in (0, 1, 7, 9, 16):
        r = full_request()
        span_of(r).parent_span_id = b"\x01" * n
        span_of(r).links[0].span_id = b"\x01" * n
        span_of(r).links[0].trace_id = b"\x01" * (n + 1)
        emit(f"parent and link ids of {n} bytes", r.SerializeToString())
    r = full_request()
    for rs in r.resource_spans:
        for ss in rs.scope_spans:
            for s in ss.spans:
                s.span_id = b""
    emit("every span rejected", r.SerializeToString())
    deep(33)
    deep(34)


def deep(levels):
    """The second of three spans is too deep, then every span of a resource and of a scope."""
    r = full_request()
    expect = full_request()
    r.resource_spans[0].scope_spans[0].spans[1].attributes.append(KeyValue(key="d", value=nested(levels)))
    del expect.resource_spans[0].scope_spans[0].spans[1]
    emit(f"{levels} levels in a span", r.SerializeToString(), expect=expect, rejected=1)
    r, expect = full_request(), full_request()
    span_of(r).events[0].attributes.append(KeyValue(key="d", value=nested(levels)))
    del expect.resource_spans[0].scope_spans[0].spans[0]
    emit(f"{levels} levels in an event", r.SerializeToString(), expect=expect, rejected=1)
    r, expect = full_request(), full_request()
    r.resource_spans[0].resource.attributes.append(KeyValue(key="d", value=nested(levels)))
    del expect.resource_spans[0]
    emit(f"{levels} levels in a resource", r.SerializeToString(), expect=expect, rejected=3)
    r, expect = full_request(), full_request()
    r.resource_spans[0].scope_spans[0].scope.attributes.append(KeyValue(key="d", value=nested(levels)))
    del expect.resource_spans[0].scope_spans[0]
    emit(f"{levels} levels in a scope", r.SerializeToString(), expect=expect, rejected=2)


def damaged():
    bad = {"field number 0": ("0001", "INVALID"), "field number too large": ("8080808010" + "01", "INVALID"),
           "wire type 6": ("0e00", "INVALID"), "wire type 7": ("0f00", "INVALID"),
           "end of no group": ("0c", "INVALID"), "end of another group": ("0b14", "INVALID"),
           "group without end": ("0b", "TRUNCATED"), "tag alone": ("0a", "TRUNCATED"),
           "length past the end": ("0a05", "TRUNCATED"), "length of 64 bits": ("0affffffffffffffffff01", "TRUNCATED"),
           "varint of eleven bytes": ("08" + "ff" * 10 + "01", "INVALID"),
           "varint cut": ("08ff", "TRUNCATED"), "fixed64 cut": ("0901020304", "TRUNCATED"),
           "fixed32 cut": ("0d0102", "TRUNCATED"), "tag cut": ("8a", "TRUNCATED")}
    for name, (text, error) in bad.items():
        b = bytes.fromhex(text)
        emit(name, b, error=error)
        for outer in ("0a", "0a12", "0a1212", "0a12124a", "0a12124a12", "0a12125a", "0a12126a", "0a12127a"):
            inner = b
            for tag in bytes.fromhex(outer)[::-1]:
                inner = field(tag, inner)
            emit(f"{name} below {outer}", inner, error="INVALID")


    # a value's length that goes on in the byte behind its message
    span = field(1 << 3 | 2, TRACE_ID) + field(9 << 3 | 2, bytes.fromhex("0a016b12020aff")) + varint(16 << 3 | 5) + \
        b"\xff\xff\xff\xff" + field(5 << 3 | 2, b"n" * 100)
    emit("length across the end", field(10, field(18, field(18, span))), error="INVALID")
    span = field(1 << 3 | 2, TRACE_ID) + field(9 << 3 | 2, bytes.fromhex("0a046b6b6b6b12ff")) + varint(16 << 3 | 5) + \
        b"\xff\xff\xff\xff" + field(5 << 3 | 2, b"n" * 100)
    emit("value length across the end", field(10, field(18, field(18, span))), error="INVALID")


def only_json():
    def case(name, text, expect=None, error=None, rejected=None):
        emit(name, json_in=text, expect=expect if expect or error else Request(), error=error, rejected=rejected)

    ids = f'"traceId":"{TRACE_ID.hex()}","spanId":"{SPAN_ID.hex()}"'

    def spans(text, resource="", scope=""):
        return ('{"resourceSpans":[{' + resource + '"scopeSpans":[{' + scope + '"spans":[{' + text + "}]}]}]}")

    case("no members", "{}")
    case("null list", '{"resourceSpans":null}')
    case("snake case is unknown", '{"resource_spans":[{"scope_spans":[{"spans":[{' + ids + "}]}]}]}")
    case("upper case ids", spans(f'"traceId":"{TRACE_ID.hex().upper()}","spanId":"{SPAN_ID.hex().upper()}"'),
         request_with())
    case("empty parent", spans(ids + ',"parentSpanId":""'), request_with())
    case("id not hex", spans(f'"traceId":"{TRACE_ID.hex()}","spanId":"{"xy" * 8}"'), Request(), rejected=1)
    case("numbers for strings", spans(ids + ',"startTimeUnixNano":1790000000000000001,"endTimeUnixNano":"2",'
         '"attributes":[{"key":"a","value":{"intValue":-5}},{"key":"b","value":{"intValue":"-6"}},'
         '{"key":"c","value":{"intValue":1e3}},{"key":"d","value":{"doubleValue":1}},'
         '{"key":"e","value":{"doubleValue":"NaN"}},{"key":"f","value":{"doubleValue":"-Infinity"}},'
         '{"key":"g","value":{"doubleValue":"Infinity"}},{"key":"h","value":{"doubleValue":"1.5"}}]'),
         request_with(start_time_unix_nano=1790000000000000001, end_time_unix_nano=2,
                      attributes=[kv("a", int_value=-5), kv("b", int_value=-6), kv("c", int_value=1000),
                                  kv("d", double_value=1.0), kv("e", double_value=math.nan),
                                  kv("f", double_value=-math.inf), kv("g", double_value=math.inf),
                                  kv("h", double_value=1.5)]))
    r = request_with(kind=2)
    span_of(r).status.code = 2
    case("enum names", spans(ids + ',"kind":"SPAN_KIND_SERVER","status":{"code":"STATUS_CODE_ERROR"}'), r)
    case("enum strings", spans(ids + ',"kind":"2","status":{"code":"2"}'), r)
    case("enums unknown", spans(ids + ',"kind":"SPAN_KIND_X","status":{"code":77}'), request_with())
    case("nulls", spans(ids + ',"name":null,"kind":null,"attributes":null,"events":null,"status":null'),
         request_with())
    case("last scalar counts", spans(ids + ',"name":"a","name":"b"'), request_with(name="b"))
    case("unknown members", spans(ids + ',"x":{"y":[1,{"z":"\\n"}]},"name":"n","zz":[[]]', '"q":[{}],', '"p":1,'),
         request_with(name="n"))
    case("base64 of either alphabet", spans(ids + ',"attributes":[{"key":"a","value":{"bytesValue":"+/+/"}},'
         '{"key":"b","value":{"bytesValue":"-_-_"}},{"key":"c","value":{"bytesValue":"AQ=="}},'
         '{"key":"d","value":{"bytesValue":"AQ"}}]'),
         request_with(attributes=[kv("a", bytes_value=b"\xfb\xff\xbf"), kv("b", bytes_value=b"\xfb\xff\xbf"),
                                  kv("c", bytes_value=b"\x01"), kv("d", bytes_value=b"\x01")]))
    case("value before key", spans(ids + ',"attributes":[{"value":{"boolValue":true},"key":"k"}]'),
         request_with(attributes=[kv("k", bool_value=True)]))
    case("last value counts", spans(ids + ',"attributes":[{"key":"k","value":{"boolValue":true,"stringValue":"s"}}]'),
         request_with(attributes=[kv("k", string_value="s")]))
    case("null value", spans(ids + ',"attributes":[{"key":"k","value":null},{"key":"l","value":{"stringValue":null}}]'),
         request_with(attributes=[KeyValue(key="k"), KeyValue(key="l")]))
    r = request_with(attributes=[kv("k", int_value=1)])
    span_of(r).events.add(name="e")
    case("attributes behind events", spans('"events":[{"name":"e"}],"attributes":[{"value":{"intValue":1},"key":"k"}],'
                                           + ids), r)
    r = request_with()
    r.resource_spans[0].resource.attributes.append(kv("service.name", string_value="s"))
    r.resource_spans[0].schema_url = "u"
    r.resource_spans[0].scope_spans[0].scope.name = "n"
    r.resource_spans[0].scope_spans[0].schema_url = "v"
    case("groups behind spans", '{"resourceSpans":[{"scopeSpans":[{"spans":[{' + ids + '}],"scope":{"name":"n"},'
         '"schemaUrl":"v"}],"schemaUrl":"u","resource":{"attributes":[{"key":"service.name","value":'
         '{"stringValue":"s"}}]}}]}', r)

    def lists(n):
        return '{"arrayValue":{"values":[' * n + '{"stringValue":"x"}' + "]}}" * n

    v = AnyValue(string_value="x")
    for _ in range(32):
        v = array(v)
    case("32 levels", spans(ids + f',"attributes":[{{"key":"k","value":{lists(32)}}}]'),
         request_with(attributes=[KeyValue(key="k", value=v)]))
    case("33 levels", spans(ids + f',"attributes":[{{"key":"k","value":{lists(33)}}}]'), Request(), rejected=1)
    case("150 levels", spans(ids + f',"attributes":[{{"key":"k","value":{lists(150)}}}]'), Request(), rejected=1)
    case("1000 levels", spans(ids + f',"attributes":[{{"key":"k","value":{lists(1000)}}}]'), error="DEPTH")
    case("1000 arrays", "[" * 1000, error="INVALID")
    case("1000 arrays in an unknown member", '{"x":' + "[" * 1000, error="DEPTH")
    for name, text in {
            "not an object": "[]", "a string": '"x"', "two objects": "{}{}", "wrong list": '{"resourceSpans":{}}',
            "wrong element": '{"resourceSpans":[1]}', "wrong string": spans(ids + ',"name":5'),
            "wrong number": spans(ids + ',"startTimeUnixNano":"x"'), "fraction": spans(ids + ',"flags":1.5'),
            "too large": spans(ids + ',"droppedEventsCount":4294967296'), "wrong object": spans(ids + ',"status":[]'),
            "wrong bool": spans(ids + ',"attributes":[{"key":"k","value":{"boolValue":"true"}}]'),
            "wrong bytes": spans(ids + ',"attributes":[{"key":"k","value":{"bytesValue":"*"}}]'),
            "wrong int": spans(ids + ',"attributes":[{"key":"k","value":{"intValue":"1.5"}}]'),
            "wrong value": spans(ids + ',"attributes":[{"key":"k","value":{"arrayValue":[]}}]'),
            "damaged": spans(ids + ',"name":"\\x"'), "bare": "resourceSpans"}.items():
        case(f"json {name}", text, error="INVALID")


each_field()
unusual()
damaged()
only_json()
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "otlp.txt"), "w", encoding="utf-8") as out:
    out.write("\n".join(lines) + "\n")
print(f"{sum(line.startswith('case ') for line in lines)} cases")
