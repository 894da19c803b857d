# SPDX-License-Identifier: Apache-2.0
"""Erasing: through the admin port and on a directory; no file holds the bytes afterwards."""
import json
import os

from lib import Server, check, equal, get, lymer, otlp, request, scenario, send

SECRET = "very-secret-4711"


def with_key(value, **more):
    return otlp(attributes=[{"key": "user.email", "value": {"stringValue": value}}], **more)


def files_with(data, text):
    found = []
    for folder, _, names in os.walk(data):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                if text.encode() in f.read():
                    found.append(name)
    return found


def emails(server, trace):
    spans = get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]
    return [t["value"] for s in spans for t in s["tags"] if t["key"] == "user.email"]


@scenario
def redact_online():
    with Server() as server:
        admin = server.url("", "admin")
        first, message = with_key(SECRET, service="cart", spans=3)
        send(server, message)
        second, message = with_key("other-value", service="cart")
        send(server, message)
        check(files_with(server.data, SECRET), "the value is in the log")
        counted = lymer("redact", "--url", admin, "--key", "user.email", "--value", SECRET)
        check(b"3 values would be replaced in 3 spans of 1 traces" in counted.stdout, counted.stdout)
        equal(emails(server, first), [SECRET] * 3, "nothing was changed")
        done = lymer("redact", "--url", admin, "--key", "user.email", "--value", SECRET, "--yes", "-o", "json")
        said = json.loads(done.stdout)
        equal((said["traces"], said["spans"], said["values"], said["failed"], said["held"]), (1, 3, 3, 0, 0), said)
        equal(emails(server, first), ["[redacted]"] * 3, "replaced")
        equal(emails(server, second), ["other-value"], "another value")
        equal(files_with(server.data, SECRET), [], "no file has it")
        lymer("redact", "--url", admin, "--trace", second, "--yes")
        equal(get(server.url(f"/api/traces/{second}"), raw=True)[0], 404, "erased")
        equal(lymer("redact", "--url", admin, "--trace", second, "--yes", ok=False).returncode, 3, "nothing left")
        third, message = with_key(SECRET, service="cart")  # what comes later is taken as it is
        send(server, message)
        equal(emails(server, third), [SECRET], "later")
        with open(os.path.join(server.data, "audit.log"), encoding="ascii") as f:
            lines = f.read().splitlines()
        equal(len(lines), 6, lines)
        check(f"trace={second} traces=1 spans=1" in lines[3] and "redact done" in lines[3], lines[3])
        server.stop()


@scenario
def redact_needs_a_confirmation():
    with Server() as server:
        trace, message = otlp()
        send(server, message)
        url = server.url(f"/redact?trace={trace}", "admin")
        equal(request("POST", url)[0], 403, "no header")
        equal(request("GET", url)[0], 405, "GET is not the way")
        equal(request("POST", server.url("/redact", "admin"))[0], 400, "says nothing")
        equal(request("POST", server.url("/redact?trace=1&service=cart", "admin"))[0], 400, "a part of a trace")
        equal(get(server.url(f"/api/traces/{trace}"), raw=True)[0], 200, "still there")
        equal(request("POST", url, headers={"X-Lymer-Confirm": "redact"})[0], 200, "confirmed")
        equal(get(server.url(f"/api/traces/{trace}"), raw=True)[0], 404, "gone")
        for args in (("--key", "k", "--trace", trace), (), ("--trace", "nonsense!"), ("--trace", trace, "--value", "x")):
            equal(lymer("redact", *args, ok=False).returncode, 2, args)


@scenario
def redact_a_directory():
    with Server() as server:
        trace, message = with_key(SECRET, spans=2)
        send(server, message)
        equal(lymer("redact", "--data", server.data, "--trace", trace, ok=False).returncode, 4, "in use")
        server.stop()
        lymer("redact", "--data", server.data, "--key", "user.email", "--yes")
        equal(files_with(server.data, SECRET), [], "no file has it")
        check(b"ok" in lymer("verify", server.data).stdout, "verify")
        equal(json.loads(lymer("trace", trace, "--data", server.data, "-o", "json").stdout)["data"][0]["traceID"], trace, "stays")
        equal(lymer("redact", "--data", server.data + "/none", "--key", "k", ok=False).returncode, 3, "no directory")
