# SPDX-License-Identifier: Apache-2.0
"""Sends one trace with everything a span can carry through the OpenTelemetry SDK and prints what it sent.
    sdk_python.py grpc|proto none|gzip URL"""
import json
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

protocol, compression, url = sys.argv[1:]
if protocol == "grpc":
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    exporter = OTLPSpanExporter(endpoint=url, insecure=True, compression=grpc.Compression.Gzip if compression == "gzip" else None)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    exporter = OTLPSpanExporter(endpoint=url, compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression)

sent = []


class Note(SpanExporter):
    def export(self, spans):
        for s in spans:
            c = s.get_span_context()
            sent.append({
                "traceId": f"{c.trace_id:032x}", "spanId": f"{c.span_id:016x}",
                "parentSpanId": f"{s.parent.span_id:016x}" if s.parent else "",
                "traceState": c.trace_state.to_header() if c.trace_state else "", "flags": int(c.trace_flags), "name": s.name,
                "kind": s.kind.value, "start": s.start_time, "end": s.end_time,
                "attributes": {k: list(v) if isinstance(v, tuple) else v for k, v in s.attributes.items()},
                "status": {"code": s.status.status_code.value, "message": s.status.description},
                "events": [{"name": e.name, "time": e.timestamp, "attributes": dict(e.attributes)} for e in s.events],
                "links": [{"traceId": f"{l.context.trace_id:032x}", "spanId": f"{l.context.span_id:016x}",
                           "attributes": dict(l.attributes)} for l in s.links],
                "scope": {"name": s.instrumentation_scope.name, "version": s.instrumentation_scope.version},
                "resource": dict(s.resource.attributes)})
        ok = exporter.export(spans)
        if ok is not SpanExportResult.SUCCESS:
            sys.exit("export failed")
        return ok


provider = TracerProvider(resource=Resource.create({"service.name": f"python-{protocol}-{compression}", "service.version": "1.2.3"}))
provider.add_span_processor(SimpleSpanProcessor(Note()))
tracer = provider.get_tracer("e2e-scope", "0.9")
remote = trace.set_span_in_context(trace.NonRecordingSpan(SpanContext(
    trace_id=int.from_bytes(__import__("os").urandom(16), "big") | 1, span_id=0xB7AD6B7169203331, is_remote=True,
    trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "a:1"), ("other", "2")]))))
linked = SpanContext(trace_id=0x0AF7651916CD43DD8448EB211C80319C, span_id=0x00F067AA0BA902B7, is_remote=True, trace_flags=TraceFlags(1))
with tracer.start_as_current_span(
        "GET /things/{id}", context=remote, kind=SpanKind.SERVER, links=[Link(linked, {"why": "batch"})], attributes={
            "text": "plain", "text.empty": "", "text.unicode": "한국어 漢字 🐕 \"quoted\" \\ \n", "yes": True, "no": False, "int": 42,
            "int.negative": -7, "int.large": 9223372036854775807, "int.least": -9223372036854775808, "float": 2.5, "float.whole": 3.0,
            "float.tiny": 1e-7, "list.text": ["a", "b"], "list.int": [1, 2, 3], "list.bool": [True, False], "list.float": [0.5, 1.25],
            "list.empty": []}) as root:
    root.add_event("cache miss", {"key": "things:7", "tries": 3})
    try:
        raise TypeError("it broke")
    except TypeError as e:
        root.record_exception(e)
    for name, kind in [("internal", SpanKind.INTERNAL), ("call", SpanKind.CLIENT), ("send", SpanKind.PRODUCER), ("receive", SpanKind.CONSUMER)]:
        with tracer.start_as_current_span(name, kind=kind, attributes={"peer.service": "x"}) as span:
            if kind is SpanKind.CLIENT:
                span.set_status(Status(StatusCode.ERROR, "connection refused"))
            if kind is SpanKind.PRODUCER:
                span.set_status(Status(StatusCode.OK))
provider.shutdown()
print(json.dumps(sent))
