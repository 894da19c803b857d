# SPDX-License-Identifier: Apache-2.0
"""kill -9 at a random moment under load: every acknowledged span is there after a restart, in every sync policy.

$LYMER_KILLS sets the number of kills (default 12; `make crash` does 200)."""
import json
import os
import random
import threading
import time
import http.client

from lib import Server, check, equal, get, scenario, until

KILLS = int(os.environ.get("LYMER_KILLS", "12"))
POLICIES = ("interval", "each", "os")


class Writer(threading.Thread):
    """Sends small traces one request after another and remembers what was acknowledged."""

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.port, self.random, self.acked, self.sent = port, random.Random(seed), {}, set()

    def run(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            while True:
                request, ids = self.request()
                self.sent.update(ids)
                c.request("POST", "/v1/traces", json.dumps(request), {"Content-Type": "application/json"})
                answer = c.getresponse()
                answer.read()
                if answer.status == 200:
                    self.acked.update(ids)
        except OSError:
            return
        except http.client.HTTPException:
            return

    def request(self):
        spans, ids, now = [], {}, time.time_ns()
        for _ in range(self.random.randrange(1, 4)):
            trace = f"{self.random.getrandbits(128) | 1:032x}"
            n = self.random.randrange(1, 40)
            ids[trace] = {f"{self.random.getrandbits(64) | 1:016x}" for _ in range(n)}
            for span in ids[trace]:
                spans.append({"traceId": trace, "spanId": span, "name": f"op{n}", "kind": 2, "startTimeUnixNano": str(now),
                              "endTimeUnixNano": str(now + 1000),
                              "attributes": [{"key": "pad", "value": {"stringValue": "x" * self.random.randrange(400)}}]})
        return {"resourceSpans": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "crash"}}]},
                                   "scopeSpans": [{"spans": spans}]}]}, ids


def ids_of(server, trace):
    answer = get(server.url(f"/api/traces/{trace}"), {"raw": "true"})
    return [s["spanID"] for s in answer["data"][0]["spans"]]


@scenario
def kill_9_loses_nothing_acknowledged():
    seed = int(os.environ.get("LYMER_TEST_SEED", random.getrandbits(32)))
    print(f"# seed {seed}, {KILLS} kills")
    rng = random.Random(seed)
    total = 0
    for policy_index, policy in enumerate(POLICIES):
        kills = KILLS // len(POLICIES) + (policy_index < KILLS % len(POLICIES))
        known = {}
        server = Server("--sync", policy, "--memtable", "1MiB")
        try:
            for _ in range(kills):
                writers = [Writer(server.port("otlp"), rng.getrandbits(32)) for _ in range(3)]
                for w in writers:
                    w.start()
                moment = time.monotonic() + rng.uniform(0.02, 0.8)
                until(lambda: time.monotonic() >= moment and any(w.acked for w in writers), 30, "load")
                server.kill()
                fresh = {}
                for w in writers:
                    w.join(30)
                    fresh.update(w.acked)
                directory = server.dir
                server = Server("--sync", policy, "--memtable", "1MiB", data=server.data)
                server.dir = directory
                for trace, spans in {**fresh, **dict(rng.sample(sorted(known.items()), min(len(known), 50)))}.items():
                    got = ids_of(server, trace)
                    equal(sorted(got), sorted(spans), f"{policy}: trace {trace} after kill -9")
                known.update(fresh)
                total += sum(len(s) for s in fresh.values())
            server.stop()
        finally:
            server.kill()
            if server.dir:
                server.dir.cleanup()
    check(total > 0, "nothing was acknowledged")
    print(f"# {KILLS} kills, {total} acknowledged spans read back")
