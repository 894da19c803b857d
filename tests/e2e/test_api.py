# SPDX-License-Identifier: Apache-2.0
"""Jaeger's query API over a real server: what scripts, Grafana and bookmarks rely on."""
import json
import os
import time

from lib import Server, check, equal, get, otlp, request, scenario, send


def attrs(**kv):
    return [{"key": k, "value": {"stringValue": v}} for k, v in kv.items()]


@scenario
def one_span_satisfies_all_filters_together():
    with Server(memory=True) as server:
        now = time.time_ns()

        def span(trace, service, name, tags, ms=1, **more):
            m = {"resourceSpans": [{"resource": {"attributes": attrs(**{"service.name": service, "region": "eu"})}, "scopeSpans": [
                {"scope": {"name": "lib", "version": "2"}, "spans": [{
                    "traceId": trace, "spanId": os.urandom(8).hex(), "name": name, "kind": 2, "startTimeUnixNano": str(now),
                    "endTimeUnixNano": str(now + ms * 1_000_000), "attributes": attrs(**tags), **more}]}]}]}
            equal(send(server, m)[0], 200, "send")

        a, b = os.urandom(16).hex(), os.urandom(16).hex()
        span(a, "cart", "add", {"user": "1"}, 5)
        span(a, "cart", "remove", {"user": "2"}, 50, status={"code": 2},
             events=[{"timeUnixNano": str(now), "name": "boom", "attributes": attrs(cause="disk")}])
        span(b, "pay", "add", {"user": "1"}, 500)

        def found(**params):
            data = get(server.url("/api/traces"), {"service": "cart", **params})["data"]
            return sorted(t["traceID"] for t in data)

        equal(found(), [a], "service")
        equal(found(operation="add", tags=json.dumps({"user": "1"})), [a], "one span has both")
        equal(found(operation="add", tags=json.dumps({"user": "2"})), [], "two spans have them apart")
        equal(found(tag=["user:2", "region:eu"]), [a], "span and resource")
        equal(found(tag=["cause:disk", "error:true"]), [a], "event and status")
        equal(found(operation="add", tag="error:true"), [], "the error is in another span")
        equal(found(minDuration="40ms", operation="remove"), [a], "duration")
        equal(found(minDuration="40ms", operation="add"), [], "duration of another span")
        equal(found(maxDuration="10ms"), [a], "max duration")
        equal(found(start=str(now // 1000 + 10)), [], "time")
        equal(found(tags=json.dumps({"otel.scope.name": "lib", "span.kind": "server"})), [a], "scope and kind")
        equal([t["traceID"] for t in get(server.url("/api/traces"), {"traceID": [a, b], "service": ""})["data"]], [a, b], "several ids")
        whole = get(server.url("/api/traces"), {"service": "cart", "operation": "add"})["data"][0]
        equal(len(whole["spans"]), 2, "the whole trace comes back")


@scenario
def errors_are_jaegers():
    with Server(memory=True) as server:
        for path, status, message in (
                ("/api/traces", 400, "parameter 'service' is required"),
                ("/api/operations", 400, "parameter 'service' is required"),
                ("/api/traces?service=a&start=x", 400, "unable to parse param 'start': strconv.ParseInt: parsing \"x\": invalid syntax"),
                ("/api/traces?service=a&tag=x", 400, "malformed 'tag' parameter, expecting key:value, received: x"),
                ("/api/traces?service=a&minDuration=2s&maxDuration=1s", 400, "'maxDuration' should be greater than 'minDuration'"),
                ("/api/traces/00000000000000000000000000000001", 404, "trace not found"),
                ("/api/traces/zz", 400, None)):
            got, body, headers = request("GET", server.url(path))
            equal(got, status, path)
            answer = json.loads(body)
            equal(sorted(answer), ["data", "errors", "limit", "offset", "total"], path)
            check(headers["Content-Type"].startswith("text/plain"), path, headers)
            if message:
                equal(answer["errors"][0]["msg"], message, path)
        got, body, _ = request("GET", server.url("/api/v3/traces?query.startTimeMin=x"))
        equal(got, 400, "v3")
        check(json.loads(body)["error"]["httpCode"] == 400, body)
        equal(request("GET", server.url("/api/nothing"))[0], 404, "unknown path")
        check(request("GET", server.url("/api/services"))[2]["traceresponse"].count("-") == 3, "traceresponse")


@scenario
def third_generation_answers_otlp():
    with Server(memory=True) as server:
        trace, message = otlp("api", spans=3, name="GET /")
        equal(send(server, message)[0], 200, "send")
        window = {"query.startTimeMin": "2020-01-01T00:00:00Z", "query.startTimeMax": "2100-01-01T00:00:00Z"}
        equal(get(server.url("/api/v3/services")), {"services": ["api"]}, "services")
        operations = get(server.url("/api/v3/operations"), {"service": "api"})["operations"]
        check({"name": "GET /", "spanKind": "server"} in operations, operations)
        one = get(server.url(f"/api/v3/traces/{trace}"))["result"]["resourceSpans"]
        spans = [s for r in one for sc in r["scopeSpans"] for s in sc["spans"]]
        equal(sorted(s["spanId"] for s in spans), sorted(s["spanId"] for s in message["resourceSpans"][0]["scopeSpans"][0]["spans"]), "spans")
        many = get(server.url("/api/v3/traces"), {"query.serviceName": "api", **window})["result"]["resourceSpans"]
        equal(many, one, "search")
        summary = get(server.url("/api/v3/trace-summaries"), {"query.serviceName": "api", **window})["summaries"][0]
        equal([summary["traceId"], summary["rootServiceName"], summary["rootOperationName"], summary["spanCount"]], [trace, "api", "GET /", 3], "summary")
        equal(request("GET", server.url("/api/v3/traces/" + "1" * 32))[0], 404, "absent")


@scenario
def calls_between_services_are_counted_exactly():
    with Server("--memtable", "1MiB") as server:
        expected = {}
        for i in range(40):
            trace, now = os.urandom(16).hex(), time.time_ns()
            ids = [os.urandom(8).hex() for _ in range(4)]
            for depth, service in enumerate(("front", "cart", "cart", "db")):  # each span in a request of its own, children first
                d = 3 - depth
                service = ("front", "cart", "cart", "db")[d]
                m = {"resourceSpans": [{"resource": {"attributes": attrs(**{"service.name": service})}, "scopeSpans": [{"spans": [{
                    "traceId": trace, "spanId": ids[d], "parentSpanId": ids[d - 1] if d else "", "name": "x",
                    "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 5), "attributes": attrs(pad="x" * 20_000)}]}]}]}
                equal(send(server, m)[0], 200, "send")
        for pair in (("front", "cart"), ("cart", "cart"), ("cart", "db")):
            expected[pair] = 40
        links = {(d["parent"], d["child"]): d["callCount"] for d in get(server.url("/api/dependencies"))["data"]}
        equal(sorted(links.items()), sorted(expected.items()), "across memtable and blocks")
        server.stop()
        with Server(data=server.data) as again:
            links = {(d["parent"], d["child"]): d["callCount"] for d in get(again.url("/api/dependencies"))["data"]}
            equal(sorted(links.items()), sorted(expected.items()), "after a restart")


@scenario
def tenants_see_their_own():
    with Server(memory=True) as server:
        a, ma = otlp("one")
        b, mb = otlp("two")
        equal(send(server, ma, headers={"x-tenant": "a"})[0], 200, "send")
        equal(send(server, mb, headers={"X-Scope-OrgID": "b"})[0], 200, "send")
        status, body, _ = request("GET", server.url("/api/services"), headers={"x-tenant": "a"})
        equal(json.loads(body)["data"], ["one"], "services of a")
        equal(request("GET", server.url(f"/api/traces/{b}"), headers={"x-tenant": "a"})[0], 404, "b's trace for a")
        equal(request("GET", server.url(f"/api/traces/{b}"), headers={"x-tenant": "b"})[0], 200, "b's trace for b")
        equal(send(server, ma, headers={"x-tenant": "../etc"})[0], 400, "bad tenant")


@scenario
def a_large_trace_streams():
    with Server() as server:
        trace = os.urandom(16).hex()
        for _ in range(20):
            _, message = otlp("big", spans=2_000, trace=trace)
            equal(send(server, message)[0], 200, "send")
        spans = get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]
        equal(len(spans), 40_000, "spans")
        equal(len({s["spanID"] for s in spans}), 40_000, "distinct spans")
        status, body, headers = request("GET", server.url(f"/api/traces/{trace}"), headers={"Accept-Encoding": "gzip"})
        equal(headers.get("Content-Encoding"), "gzip", "compressed on request")


@scenario
def export_counts_what_it_refuses():
    with Server(memory=True) as server:
        equal(send(server, otlp()[1])[0], 200, "send")
        equal(get(server.url("/api/export"), raw=True)[0], 200, "export")
        equal(get(server.url("/api/export"), {"start": "soon"}, raw=True)[0], 400, "a malformed time")
        equal(get(server.url("/api/export"), headers={"x-tenant": "no/such"}, raw=True)[0], 401, "a malformed tenant")
        m = server.metrics()
        equal([m["lymer_queries_total"], m['lymer_requests_bad_total{reason="parameter"}'],
               m['lymer_requests_bad_total{reason="tenant"}']], [1, 1, 1], "counts")


@scenario
def no_header_comes_twice():
    with Server(memory=True) as server:
        for path in ("/", "/api/services", "/api/traces", "/api/nosuch", "/api/export?start=x", "/api/v3/traces/1"):
            status, _, headers = request("GET", server.url(path))
            names = [n.lower() for n in headers.keys() if n.lower() != "vary"]
            equal(sorted(names), sorted(set(names)), f"headers of {path}, {status}")
