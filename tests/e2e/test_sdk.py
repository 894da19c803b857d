# SPDX-License-Identifier: Apache-2.0
"""What the OpenTelemetry SDKs send is what Jaeger's JSON gives back, field by field."""
import base64
import json

from lib import NODE_DIR, ROOT, VENV_PYTHON, Server, check, equal, get, run, scenario, until

KINDS = {"node": {0: "internal", 1: "server", 2: "client", 3: "producer", 4: "consumer"},
         "python": {0: "internal", 1: "server", 2: "client", 3: "producer", 4: "consumer"}}
STATUS = {1: "OK", 2: "ERROR"}


def ns(t):
    return t[0] * 1_000_000_000 + t[1] if isinstance(t, list) else t


def jaeger_tag(sdk, key, value):
    """The tag an attribute becomes. Node has one number type: whole numbers are sent as integers."""
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        big = abs(value) > 2**53 - 1
        return {"key": key, "type": "int64", "value": str(value) if big else value}
    if isinstance(value, float):
        return {"key": key, "type": "float64", "value": value}
    if isinstance(value, bytes):
        return {"key": key, "type": "binary", "value": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return {"key": key, "type": "string", "value": json.dumps(value, separators=(",", ":"))}
    return {"key": key, "type": "string", "value": value}


def expected_span(sdk, s):
    tags = [jaeger_tag(sdk, k, v) for k, v in s["attributes"].items()]
    tags += [jaeger_tag(sdk, "otel.scope.name", s["scope"]["name"]), jaeger_tag(sdk, "otel.scope.version", s["scope"]["version"]),
             jaeger_tag(sdk, "span.kind", KINDS[sdk][s["kind"]])]
    if s["status"]["code"]:
        tags.append(jaeger_tag(sdk, "otel.status_code", STATUS[s["status"]["code"]]))
    if s["status"]["code"] == 2:
        tags.append(jaeger_tag(sdk, "error", True))
    if s["status"].get("message"):
        tags.append(jaeger_tag(sdk, "otel.status_description", s["status"]["message"]))
    if s["traceState"]:
        tags.append(jaeger_tag(sdk, "w3c.tracestate", s["traceState"]))
    references = []
    if s["parentSpanId"]:
        references.append({"refType": "CHILD_OF", "traceID": s["traceId"], "spanID": s["parentSpanId"]})
    references += [{"refType": "FOLLOWS_FROM", "traceID": x["traceId"], "spanID": x["spanId"]} for x in s["links"]]
    logs = [{"timestamp": ns(e["time"]) // 1000,
             "fields": [jaeger_tag(sdk, "event", e["name"])] + sorted((jaeger_tag(sdk, k, v) for k, v in e["attributes"].items()), key=lambda t: t["key"])}
            for e in s["events"]]
    out = {"traceID": s["traceId"], "spanID": s["spanId"], "operationName": s["name"], "references": references,
           "startTime": ns(s["start"]) // 1000, "duration": (ns(s["end"]) - ns(s["start"])) // 1000,
           "tags": sorted(tags, key=lambda t: t["key"]), "logs": logs, "processID": "p1"}
    if s["flags"] and sdk == "node":  # Python's exporter leaves the W3C bits of Span.flags at zero
        out["flags"] = s["flags"]
    return out


def compare(server, sdk, sent):
    trace_id = sent[0]["traceId"]
    answer = until(lambda: get(server.url(f"/api/traces/{trace_id}")) or None, what="trace")
    equal([answer[k] for k in ("total", "limit", "offset", "errors")], [0, 0, 0, None], "envelope")
    equal(len(answer["data"]), 1, "traces")
    trace = answer["data"][0]
    equal(trace["traceID"], trace_id, "trace id")
    by_id = {s["spanID"]: s for s in trace["spans"]}
    equal(sorted(by_id), sorted(s["spanId"] for s in sent), "span ids")
    for s in sent:
        got = dict(by_id[s["spanId"]])
        orphan = f"parent span ID={s['parentSpanId']} is not in the trace; skipping clock skew adjustment"
        skew = "clock skew adjustment disabled; not applying calculated delta of "  # the SDK's clock, not ours
        warnings = [w for w in got.pop("warnings") or [] if not w.startswith(skew)]
        equal(warnings, [] if s["parentSpanId"] in by_id else [orphan], f"{s['name']}: warnings")
        got["tags"] = sorted(got["tags"], key=lambda t: t["key"])  # Jaeger's generations differ in the order
        want = expected_span(sdk, s)
        got.pop("parentSpanID", None)
        equal(sorted(got), sorted(want), f"{s['name']}: fields")
        for field in want:
            equal(got[field], want[field], f"{s['name']}: {field}")
    resource = dict(sent[0]["resource"])
    process = trace["processes"]["p1"]
    equal(process["serviceName"], resource.pop("service.name"), "service")
    moved = {t["key"]: t for t in process["tags"]}
    for key, value in resource.items():
        equal(moved.get(key), jaeger_tag(sdk, key, value), f"resource {key}")
    check(len(moved) == len(resource), "extra process tags", sorted(moved), sorted(resource))


def url_for(server, protocol):
    return server.url("", "grpc") if protocol == "grpc" else server.url("/v1/traces", "otlp")


@scenario
def node_sdk():
    with Server() as server:
        for protocol in ("grpc", "proto", "json"):
            for compression in ("none", "gzip"):
                done = run("node", "sdk.mjs", protocol, compression, url_for(server, protocol), cwd=NODE_DIR)
                compare(server, "node", json.loads(done.stdout))
        names = get(server.url("/api/services"))
        equal(names["data"], sorted(f"node-{p}-{c}" for p in ("grpc", "proto", "json") for c in ("none", "gzip")), "services")
        server.stop()


@scenario
def python_sdk():
    with Server() as server:
        for protocol in ("grpc", "proto"):
            for compression in ("none", "gzip"):
                done = run(VENV_PYTHON, f"{ROOT}/tests/e2e/sdk_python.py", protocol, compression, url_for(server, protocol))
                compare(server, "python", json.loads(done.stdout))
        server.stop()


@scenario
def grpc_to_the_http_port_arrives_too():
    with Server(memory=True) as server:
        done = run(VENV_PYTHON, f"{ROOT}/tests/e2e/sdk_python.py", "grpc", "gzip", server.url("", "otlp"))
        compare(server, "python", json.loads(done.stdout))


@scenario
def sdk_traces_survive_a_restart():
    with Server() as server:
        done = run("node", "sdk.mjs", "grpc", "gzip", url_for(server, "grpc"), cwd=NODE_DIR)
        sent = json.loads(done.stdout)
        compare(server, "node", sent)
        server.stop()  # blocks on disk
        with Server(data=server.data) as again:
            compare(again, "node", sent)
            again.kill()
        with Server(data=server.data) as after_kill:
            compare(after_kill, "node", sent)


@scenario
def an_instrumented_application_is_seen_whole():
    """Four processes with OpenTelemetry's HTTP instrumentation: what each sent is one trace a request, without a gap."""
    with Server() as server:
        done = run("node", "app.mjs", server.url("/v1/traces", "otlp"), "40", cwd=NODE_DIR)
        said = json.loads(done.stdout)
        equal([said["failed"], server.metrics()["lymer_spans_accepted_total"]], [0, said["sent"]], "spans")
        equal(get(server.url("/api/services"))["data"], ["cart", "catalogue", "gateway", "payment"], "services")
        found = get(server.url("/api/traces"), {"service": "gateway", "limit": 100, "lookback": "1h"})["data"]
        equal([len(found), sum(len(t["spans"]) for t in found)], [40, said["sent"]], "traces, and spans of them")
        for trace in found:
            ids = {s["spanID"] for s in trace["spans"]}
            roots = [s for s in trace["spans"] if not s["references"]]
            equal(len(roots), 1, f"{trace['traceID']}: roots")
            check(all(r["spanID"] in ids for s in trace["spans"] for r in s["references"]), trace["traceID"], "has a gap")
        calls = {(x["parent"], x["child"]): x["callCount"] for x in get(server.url("/api/dependencies"))["data"]}
        equal(calls[("gateway", "cart")], 40, "calls of the gateway to the cart: one a request")
        check(calls[("payment", "cart")] <= calls[("gateway", "payment")], "calls", calls)
        server.stop()
