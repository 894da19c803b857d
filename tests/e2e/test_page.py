# SPDX-License-Identifier: Apache-2.0
"""The page in headless Chromium: the empty store, a trace sent by an SDK, hostile values."""
import json
import os

from lib import NODE_DIR, Server, check, equal, get, otlp, run, scenario, send
from test_sdk import url_for

SHOTS = os.environ.get("LYMER_E2E_SHOTS", "")


def page(server, what, trace=""):
    done = run("node", "page.mjs", server.url(), what, SHOTS, cwd=NODE_DIR, env={"TRACE": trace})
    return json.loads(done.stdout)


@scenario
def empty_page_tells_what_to_do():
    with Server(memory=True) as server:
        seen = page(server, "empty")
        for line in (f"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{server.port('otlp')}", "lymer load", "curl"):
            check(line in seen["text"], "not on the page:", line, seen["text"])
        equal([seen["problems"], seen["foreign"]], [[], []], "console and requests")


@scenario
def page_shows_a_trace_of_an_sdk():
    with Server(memory=True) as server:
        sent = json.loads(run("node", "sdk.mjs", "grpc", "gzip", url_for(server, "grpc"), cwd=NODE_DIR).stdout)
        for what in ("trace", "trace-dark"):
            seen = page(server, what, sent[0]["traceId"])
            equal(sorted(s["id"] for s in seen["spans"]), sorted(s["spanId"] for s in sent), "spans on the page")
            for s in sent:
                check(any(s["name"] in row["text"] for row in seen["spans"]), "span name not on the page:", s["name"])
            check("GET /things/{id}" in seen["title"], seen["title"])
            for text in ("text.unicode", "한국어 漢字 🐕", "cache miss", "exception.message", "it broke", "0af7651916cd43dd8448eb211c80319c"):
                check(text in seen["detail"], "not in the detail:", text, seen["detail"])
            equal(seen["reloaded"], seen["picked"], "deep link")
            check("not here" in seen["missing"], seen["missing"])
            equal([seen["problems"], seen["foreign"]], [[], []], "console and requests")


@scenario
def hostile_values_stay_text():
    with Server(memory=True) as server:
        evil = "<img src=x onerror=alert(1)><script>document.title='owned'</script>"
        trace, message = otlp(service=evil, name=evil, spans=2, attributes=[
            {"key": evil, "value": {"stringValue": evil}}, {"key": "url", "value": {"stringValue": "javascript:alert(1)"}},
            {"key": "long", "value": {"stringValue": "x" * 500_000}}, {"key": "nul", "value": {"stringValue": "a\u0000b\u202ec"}}])
        equal(send(server, message)[0], 200, "send")
        seen = page(server, "trace", trace)
        check(evil in seen["title"], seen["title"])
        check("javascript:alert(1)" in seen["detail"], "attribute missing")
        equal([seen["problems"], seen["foreign"]], [[], []], "console and requests")


@scenario
def page_headers():
    with Server(memory=True) as server:
        from lib import request
        status, body, headers = request("GET", server.url("/search"))
        equal(status, 200, "status")
        check("default-src 'none'" in headers["Content-Security-Policy"], headers)
        check(b'id="jaeger-ui-root"' in body and b'rel="shortcut icon"' in body, body)
        equal(request("GET", server.url("/search"), headers={"If-None-Match": headers["ETag"]})[0], 304, "etag")
        equal(request("GET", server.url("/favicon.ico"))[0], 200, "icon")
        equal(get(server.url("/api/services"))["data"] or [], [], "services")
