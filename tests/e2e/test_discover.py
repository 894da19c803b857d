# SPDX-License-Identifier: Apache-2.0
"""Which keys and values there are, and what they cost: over HTTP, with the command line, from a directory."""
import json
import os
import time
import urllib.parse

from lib import Server, check, equal, get, lymer, request, scenario, send

ODD_KEY = "odd/key ü%"


def attr(key, **value):
    return {"key": key, "value": value}


def message(start, service="shop", n=10):
    """n spans, of which each has attributes of every type, and each second one two events and a link."""
    spans = []
    for i in range(n):
        many = [attr("event.kind", stringValue=f"e{k}") for k in range(2)]
        spans.append({
            "traceId": os.urandom(16).hex(), "spanId": os.urandom(8).hex(), "name": f"op-{i % 2}", "kind": 2,
            "startTimeUnixNano": str(start + i * 1000), "endTimeUnixNano": str(start + i * 1000 + 500),
            "attributes": [attr("http.route", stringValue="/cart" if i % 5 else "/"), attr("http.status", intValue=str(200 + i % 2)),
                           attr("ok", boolValue=True), attr("ratio", doubleValue=0.5), attr("raw", bytesValue="AAEC"),
                           attr("list", arrayValue={"values": [{"intValue": "1"}]}),
                           attr("map", kvlistValue={"values": [attr("k", stringValue="v")]}), attr("nothing"),
                           attr(ODD_KEY, stringValue="a b&c"), attr("user.id", stringValue=f"user-{service}-{i}")],
            "events": [{"timeUnixNano": str(start), "name": "e", "attributes": [a]} for a in many] if i % 2 else [],
            "links": [{"traceId": "aa" * 16, "spanId": "bb" * 8, "attributes": [attr("link.to", stringValue="x")]}] if i % 2 else []})
    return {"resourceSpans": [{
        "resource": {"attributes": [attr("service.name", stringValue=service), attr("host.name", stringValue="h1")]},
        "scopeSpans": [{"scope": {"name": "e2e", "attributes": [attr("in.scope", boolValue=False)]}, "spans": spans}]}]}


def put(server, *args, headers=None, **more):
    status, body, _ = send(server, message(*args, **more), headers=headers)
    equal((status, json.loads(body)), (200, {"partialSuccess": {}}), "sent")


def keys(server, **params):
    answer = get(server.url("/api/attributes"), params)
    return {f"{k['place']} {k['key']}": [k["types"], k["count"]] for k in answer["data"]}, answer


def values(server, key, headers=None, **params):
    answer = get(server.url(f"/api/attributes/{urllib.parse.quote(key, safe='')}/values"), params, headers=headers)
    return {v["value"]: v["count"] for v in answer["data"]}, answer


@scenario
def attributes_over_http():
    now = time.time_ns() // 1000 * 1000
    with Server(memory=True) as server:
        put(server, now)
        put(server, now - 3600 * 10**9, service="old")
        put(server, now, service="theirs", headers={"x-tenant": "other"})
        found, answer = keys(server)
        want = {f"span {k}": [[t], 20] for k, t in (
            ("http.route", "string"), ("http.status", "int"), ("ok", "bool"), ("ratio", "double"), ("raw", "bytes"),
            ("list", "array"), ("map", "map"), ("nothing", "empty"), (ODD_KEY, "string"), ("user.id", "string"))}
        want |= {"resource service.name": [["string"], 20], "resource host.name": [["string"], 20],
                 "scope in.scope": [["bool"], 20], "event event.kind": [["string"], 20], "link link.to": [["string"], 10]}
        equal(found, want, "keys")
        equal({k: answer[k] for k in ("total", "limit", "offset", "errors", "spans", "missed", "longer", "complete")},
              {"total": 15, "limit": 100, "offset": 0, "errors": None, "spans": 20, "missed": 0, "longer": 0, "complete": True},
              "envelope")
        counts = [k["count"] for k in answer["data"]]
        equal(counts, sorted(counts, reverse=True), "most first")
        equal(list(keys(server, place="event")[0]), ["event event.kind"], "place")
        equal(list(keys(server, prefix="http.")[0]), ["span http.route", "span http.status"], "prefix")
        equal(keys(server, service="old", prefix="ok")[0], {"span ok": [["bool"], 10]}, "service")
        equal(keys(server, lookback=600_000, prefix="ok")[0], {"span ok": [["bool"], 10]}, "lookback")
        half = now // 1000 + 5
        equal(keys(server, start=half, prefix="ok")[0], {"span ok": [["bool"], 5]}, "start")
        equal(keys(server, start=half - 10**7, end=half, prefix="ok")[0], {"span ok": [["bool"], 6]}, "end")
        found, answer = keys(server, limit=3)
        equal((len(found), answer["total"], answer["limit"]), (3, 15, 3), "limit")

        equal(values(server, "http.route")[0], {"/cart": 16, "/": 4}, "values")
        equal(values(server, "http.route", prefix="/c")[0], {"/cart": 16}, "values by prefix")
        equal(values(server, "http.status", service="shop")[0], {"200": 5, "201": 5}, "values of a service")
        equal(values(server, ODD_KEY)[0], {"a b&c": 20}, "a key that needs encoding")
        for key, text in (("ok", "true"), ("ratio", "0.5"), ("raw", "AAEC"), ("list", "[1]"), ("map", '{"k":"v"}'), ("nothing", ""),
                          ("in.scope", "false")):
            equal(values(server, key)[0], {text: 20}, key)
        equal(values(server, "in.scope", place="span")[0], {}, "not in that place")
        equal(values(server, "event.kind")[0], {"e0": 10, "e1": 10}, "of events")
        equal(values(server, "service.name")[0], {"shop": 10, "old": 10}, "of this tenant")
        equal(values(server, "service.name", headers={"x-tenant": "other"})[0], {"theirs": 10}, "of that tenant")
        equal(values(server, "no.such.key")[1]["total"], 0, "none")
        for query in ("limit=x", "limit=20001", "place=nowhere", "start=x", "lookback=1h"):
            status, body = get(server.url(f"/api/attributes?{query}"), raw=True)
            equal(status, 400, query)
            check(json.loads(body)["errors"][0]["msg"], query)


@scenario
def attributes_under_a_base_path():
    with Server("--query.base-path", "/jaeger", memory=True) as server:
        put(server, time.time_ns())
        equal(get(server.url("/jaeger/api/attributes"))["total"], 15, "there")
        equal(request("GET", server.url("/api/attributes"))[0], 404, "not there")


@scenario
def keys_values_and_cost_from_both_sources():
    with Server() as server:
        put(server, time.time_ns(), n=300)
        put(server, time.time_ns(), service="cart", n=100)
        url, where = ("--url", server.url()), ("--data", server.data)
        asked = (("keys",), ("keys", "--service", "cart", "--prefix", "http"), ("values", ODD_KEY), ("values", "user.id", "--limit", "5"))
        answers = [json.loads(lymer(*q, *url, "-o", "json").stdout) for q in asked]
        equal(answers[3]["total"], 400, "users")
        text = lymer("keys", *url, env={"COLUMNS": "80", "LANG": "C.UTF-8"}).stdout.decode()
        check("http.route" in text and "400" in text and all(len(x) <= 80 for x in text.splitlines()), text)
        text = lymer("values", "user.id", "--limit", "3", *url).stdout.decode()
        check("(397 others)" in text, text)
        equal(lymer("values", "nobody", *url, ok=False).returncode, 3, "no such key")
        done = lymer("cost", *url)
        check(b"400 spans are not in a block yet" in done.stdout, done.stdout)
        done = lymer("keys", *where, ok=False)
        equal(done.returncode, 4, "the server holds the directory")
        server.stop()

        equal([json.loads(lymer(*q, *where, "-o", "json").stdout) for q in asked], answers, "the directory says the same")
        blocks = os.path.join(server.data, "blocks")
        on_disk = sum(os.path.getsize(os.path.join(blocks, f)) for f in os.listdir(blocks))
        cost = json.loads(lymer("cost", *where, "-o", "json").stdout)["data"]
        equal((cost["bytes"], cost["spans"], cost["waitingSpans"], cost["complete"]), (on_disk, 400, 0, True), "cost")
        for name in ("services", "operations", "columns"):
            equal(sum(row["bytes"] for row in cost[name]), on_disk, name)
        equal({s["service"]: s["spans"] for s in cost["services"]}, {"shop": 300, "cart": 100}, "services")
        text = lymer("cost", *where, "--top", "3", env={"COLUMNS": "80", "LANG": "C.UTF-8"}).stdout.decode()
        check(all(len(x) <= 80 for x in text.splitlines()), text)
        check("shop: op-0" in text and "DROP SAVES" in text and "others)" in text, text)
        with Server(data=server.data) as again:
            equal(json.loads(lymer("cost", "--url", again.url(), "-o", "json").stdout)["data"], cost, "the server says the same")
            again.stop()
