# SPDX-License-Identifier: Apache-2.0
"""Python's gRPC library and the reference protobuf modules against the gRPC door: grpc_python.py PORT."""
import os
import sys
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PORT = int(sys.argv[1])
TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
EXPORT = f"/{TRACES}/Export"
channel = grpc.insecure_channel(f"127.0.0.1:{PORT}", options=[("grpc.max_send_message_length", 100 << 20)])
exporter = trace_service_pb2_grpc.TraceServiceStub(channel)
# These modules call their files otherwise.
REFERENCES = {m.DESCRIPTOR.package: m.DESCRIPTOR for m in (health_pb2, reflection_pb2)}


def check(truth, *said):
    if not truth:
        sys.exit("failed: " + " ".join(str(s) for s in said))


def request(good, bad=0, pad=""):
    r = trace_service_pb2.ExportTraceServiceRequest()
    rs = r.resource_spans.add()
    rs.resource.attributes.add(key="service.name").value.string_value = "grpc-python"
    spans, trace, now = rs.scope_spans.add().spans, os.urandom(16), time.time_ns()
    for i in range(good + bad):
        s = spans.add(trace_id=trace if i < good else b"", span_id=os.urandom(8), name=f"op{i % 7}",
                      start_time_unix_nano=now, end_time_unix_nano=now + 1000)
        s.attributes.add(key="pad").value.string_value = pad or f"value {i}"
    return r


def refused(what, code, fn, words=""):
    try:
        answer = fn()
    except grpc.RpcError as e:
        check(e.code() == code, what, e.code(), e.details())
        check(words in e.details(), what, e.details())
        return dict(e.trailing_metadata() or ())
    sys.exit(f"failed: {what}: was taken: {answer}")


def reflected():
    """Every file the server describes, by name."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = reflection_pb2.ServerReflectionRequest
    names = next(stub.ServerReflectionInfo(iter([ask(list_services="")]))).list_services_response.service
    files = {}
    for answer in stub.ServerReflectionInfo(iter([ask(file_containing_symbol=s.name) for s in names])):
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            f = descriptor_pb2.FileDescriptorProto.FromString(raw)
            files[f.name] = f
    return [s.name for s in names], files


def same_fields(where, ours, theirs, left_out):
    want = {f.number: f for f in theirs.field}
    for f in ours.field:
        w = want.pop(f.number, None)
        check(w is not None, where, f.name, "is not in the reference")
        got = [f.name, f.type, f.label, f.type_name, f.json_name, f.HasField("oneof_index")]
        check(got == [w.name, w.type, w.label, w.type_name, w.json_name, w.HasField("oneof_index")], where, got, w)
    check(all(w.name in left_out for w in want.values()), where, "lacks", [w.name for w in want.values()])


def same_messages(where, ours, theirs, left_out):
    want = {m.name: m for m in theirs}
    check(sorted(m.name for m in ours) == sorted(want), where, sorted(want))
    for m in ours:
        same_fields(f"{where}.{m.name}", m, want[m.name], left_out)
        same_messages(f"{where}.{m.name}", m.nested_type, want[m.name].nested_type, left_out)
        same_enums(f"{where}.{m.name}", m.enum_type, want[m.name].enum_type)
        check([o.name for o in m.oneof_decl] == [o.name for o in want[m.name].oneof_decl], where, m.name, "oneof")
        check(m.options.map_entry == want[m.name].options.map_entry, where, m.name, "map")


def same_enums(where, ours, theirs):
    plain = lambda enums: sorted((e.name, [(v.name, v.number) for v in e.value]) for e in enums)
    check(plain(ours) == plain(theirs), where, plain(ours), plain(theirs))


def descriptors_are_the_references():
    names, files = reflected()
    check(TRACES in names and "grpc.health.v1.Health" in names and len(names) == 4, names)
    pool = descriptor_pool.DescriptorPool()
    for name in sorted(files, key=lambda n: ("collector" in n, "trace" in n, "resource" in n)):
        pool.Add(files[name])  # a file that does not resolve raises
    left_out = {"string_value_strindex", "key_strindex"}  # profiles only
    compared = 0
    for name, ours in files.items():
        theirs = descriptor_pb2.FileDescriptorProto()
        pool.FindFileByName(name)
        if ours.package == "grpc.reflection.v1":
            continue  # the same tables as v1alpha; no Python module of its own
        reference = REFERENCES.get(ours.package) or descriptor_pool.Default().FindFileByName(name)
        reference.CopyToProto(theirs)
        check(ours.package == theirs.package and sorted(ours.dependency) == sorted(theirs.dependency), name)
        json_names = descriptor_pb2.FileDescriptorProto.FromString(theirs.SerializeToString())
        fill_json_names(json_names.message_type)
        same_messages(name, ours.message_type, json_names.message_type, left_out)
        same_enums(name, ours.enum_type, theirs.enum_type)
        plain = lambda f: [(s.name, sorted((m.name, m.input_type, m.output_type, m.client_streaming, m.server_streaming)
                                           for m in s.method)) for s in f.service]
        check(plain(ours) == plain(theirs), name, plain(ours), plain(theirs))
        compared += 1
    check(compared >= 6, "compared only", compared)


def fill_json_names(messages):
    for m in messages:
        for f in m.field:
            if not f.json_name:
                head, *rest = f.name.split("_")
                f.json_name = head + "".join(p[:1].upper() + p[1:] for p in rest)
        fill_json_names(m.nested_type)


def exports_of_every_encoding():
    for compression in (None, grpc.Compression.Gzip, grpc.Compression.Deflate):
        answer = exporter.Export(request(200), compression=compression)
        check(not answer.HasField("partial_success"), compression, answer)
        answer = exporter.Export(request(6, pad="y" * 1_000_000), compression=compression)
        check(not answer.HasField("partial_success"), compression, answer)
    partial = exporter.Export(request(3, 2)).partial_success
    check(partial.rejected_spans == 2 and "2 spans rejected" in partial.error_message, partial)
    check(exporter.Export(request(0, 4)).partial_success.rejected_spans == 4, "all rejected")
    check(not exporter.Export(trace_service_pb2.ExportTraceServiceRequest()).HasField("partial_success"), "empty")


def refusals():
    raw = channel.unary_unary(EXPORT)
    for compression in (None, grpc.Compression.Gzip):
        metadata = refused("70 MB", grpc.StatusCode.RESOURCE_EXHAUSTED,
                           lambda: exporter.Export(request(70, pad="y" * 1_000_000), compression=compression), "limit")
        check("grpc-status-details-bin" not in metadata, "too big is not to be tried again")
    metadata = refused("damage", grpc.StatusCode.INVALID_ARGUMENT, lambda: raw(b"\x0a\x05abc"), "byte")
    check(b"google.rpc.BadRequest" in metadata["grpc-status-details-bin"], metadata)
    refused("tenant", grpc.StatusCode.INVALID_ARGUMENT, lambda: exporter.Export(request(1), metadata=[("x-tenant", "a/b")]))
    refused("no method", grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary(f"/{TRACES}/Import")(b""))
    for signal in ("metrics.v1.Metrics", "logs.v1.Logs", "profiles.v1development.Profiles"):
        refused(signal, grpc.StatusCode.UNIMPLEMENTED,
                lambda: channel.unary_unary(f"/opentelemetry.proto.collector.{signal}Service/Export")(b""), "keeps traces only")
    refused("two messages", grpc.StatusCode.INTERNAL, lambda: channel.stream_unary(EXPORT)(iter([b"", b""])))
    refused("no message", grpc.StatusCode.INTERNAL, lambda: channel.stream_unary(EXPORT)(iter([])))


def half_calls_end_at_their_deadline():
    hold = threading.Event()

    def never():
        yield b""
        hold.wait(30)
    refused("half a call", grpc.StatusCode.DEADLINE_EXCEEDED, lambda: channel.stream_unary(EXPORT)(never(), timeout=0.3))
    hold.set()


def cancelled_calls_leave_nothing():
    for _ in range(20):
        calls = [exporter.Export.future(request(50)) for _ in range(50)]
        for c in calls[::2]:
            c.cancel()
        for c in calls[1::2]:
            check(not c.result(timeout=30).HasField("partial_success"), "a neighbour of a cancelled call")


def health():
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", TRACES):
        check(stub.Check(health_pb2.HealthCheckRequest(service=service)).status == 1, service)
    refused("unknown", grpc.StatusCode.NOT_FOUND, lambda: stub.Check(health_pb2.HealthCheckRequest(service="no.Such")))
    for service, want in ((TRACES, 1), ("no.Such", 3)):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
        check(next(watch).status == want, "watch", service)
        watch.cancel()


for step in (descriptors_are_the_references, exports_of_every_encoding, refusals, half_calls_end_at_their_deadline,
             cancelled_calls_leave_nothing, health):
    step()
    print("ok -", step.__name__, flush=True)
