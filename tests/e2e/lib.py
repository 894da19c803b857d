# SPDX-License-Identifier: Apache-2.0
"""What every end-to-end test needs: a real server on free ports, HTTP, and checks that count.

A scenario is a function decorated with @scenario; tests/e2e/run.py runs them one after another and prints TAP.
"""
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LYMER = os.environ.get("LYMER", os.path.join(ROOT, "build", "lymer"))
VENV_PYTHON = os.path.join(ROOT, "build", "venv", "bin", "python")
NODE_DIR = os.path.join(ROOT, "tests", "e2e", "node")
PORTS = {"grpc": 4317, "otlp": 4318, "query": 16686, "admin": 14269, "health": 13133}

SCENARIOS = []


def scenario(fn):
    SCENARIOS.append(fn)
    return fn


class Failed(AssertionError):
    pass


class Skipped(Exception):
    """Only for what the machine cannot do; counted and named at the end of the run."""


def check(truth, *said):
    if not truth:
        raise Failed(" ".join(str(s) for s in said) or "check failed")


def equal(got, want, what=""):
    if got != want:
        raise Failed(f"{what}:\n  got  {json.dumps(got, default=str)[:4000]}\n  want {json.dumps(want, default=str)[:4000]}")


def until(fn, seconds=20, what="condition"):
    """Polls fn until it gives a true value; never a fixed sleep."""
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def free_offset():
    """An offset at which every port of the server is free now."""
    for _ in range(200):
        offset = random.randrange(1000, 40000)
        taken = False
        for port in PORTS.values():
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("127.0.0.1", port + offset))
                except OSError:
                    taken = True
        if not taken:
            return offset
    raise Failed("no free ports")


class Server:
    def __init__(self, *flags, data=None, memory=False, offset=None, wait=True, env=None):
        self.dir = None
        if not data and not memory:
            self.dir = tempfile.TemporaryDirectory(prefix="lymer-e2e-")
            data = self.dir.name
        self.data = data
        self.offset = offset if offset is not None else free_offset()
        where = ["--memory"] if memory else ["--data", data]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [LYMER, "serve", "--port-offset", str(self.offset), *where, *flags],
            stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        if wait:
            self.wait_ready()

    def port(self, name):
        return PORTS[name] + self.offset

    def url(self, path="", name="query"):
        return f"http://127.0.0.1:{self.port(name)}{path}"

    def wait_ready(self, seconds=30):
        def ready():
            if self.process.poll() is not None:
                raise Failed(f"server ended with {self.process.returncode}: {self.output()}")
            try:
                return get(self.url("/", "admin"), raw=True)[0] == 200
            except OSError:
                return False
        until(ready, seconds, "server ready")

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def stop(self, want=0, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        if want is not None:
            equal(code, want, f"exit code; output: {self.output()[-2000:]}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def metrics(self):
        out = {}
        for line in get(self.url("/metrics", "admin"), raw=True)[1].decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind and os.environ.get("LYMER_E2E_VERBOSE"):
            sys.stderr.write(self.output())
        self.kill()
        self.log.close()
        if self.dir:
            self.dir.cleanup()


def request(method, url, body=None, headers=None, timeout=30):
    r = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(r, timeout=timeout) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as e:
        return e.code, e.read(), e.headers


def get(url, params=None, raw=False, headers=None):
    if params:
        url += "?" + urllib.parse.urlencode(params, doseq=True)
    status, body, _ = request("GET", url, headers=headers)
    if raw:
        return status, body
    check(status == 200, url, status, body[:500])
    return json.loads(body)


def run(*command, timeout=120, env=None, ok=True, **more):
    done = subprocess.run(command, capture_output=True, timeout=timeout, env={**os.environ, **(env or {})}, **more)
    if ok and done.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode()[-3000:]}\n{done.stderr.decode()[-3000:]}")
    return done


def lymer(*args, **more):
    return run(LYMER, *args, **more)


VALUES = {"stringValue", "boolValue", "intValue", "bytesValue", "arrayValue", "kvlistValue"}


def plain(x):
    """OTLP JSON in one form: without what is left at its default (but in values, where it says something), doubles as their bits."""
    if isinstance(x, list):
        return [plain(v) for v in x]
    if not isinstance(x, dict):
        return x
    if "doubleValue" in x:
        return {"doubleValue": struct.pack(">d", float(x["doubleValue"])).hex()}
    return {k: p for k, v in x.items() if (p := plain(v)) not in ("", 0, "0", [], {}, None) or k in VALUES}


def whole_spans(documents):
    """Each span of an export, with what its resource and scope say, as one text. In order: the same spans make the same list."""
    out = []
    for document in documents:
        for resource in json.loads(document, parse_int=lambda n: -0.0 if n == "-0" else int(n))["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                about = plain([resource.get("resource"), resource.get("schemaUrl"), scope.get("scope"), scope.get("schemaUrl")])
                out += (json.dumps([plain(span), about], sort_keys=True) for span in scope["spans"])
    return sorted(out)


def otlp(service="svc", spans=1, trace=None, name="op", start=None, **fields):
    """An OTLP/JSON request with `spans` spans of one trace; the first is the root."""
    trace = trace or os.urandom(16).hex()
    start = start or time.time_ns()
    ids = [os.urandom(8).hex() for _ in range(spans)]
    return trace, {"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "e2e"}, "spans": [{
            "traceId": trace, "spanId": ids[i], **({"parentSpanId": ids[0]} if i else {}),
            "name": name if i == 0 else f"{name}-{i}", "kind": 2 if i == 0 else 3,
            "startTimeUnixNano": str(start + i * 1000), "endTimeUnixNano": str(start + 5_000_000),
            **fields} for i in range(spans)]}]}]}


def send(server, message, content_type="application/json", path="/v1/traces", headers=None):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return request("POST", server.url(path, "otlp"), body, {"Content-Type": content_type, **(headers or {})})
