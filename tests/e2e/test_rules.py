# SPDX-License-Identifier: Apache-2.0
"""Retention rules: read from flags and files, tried on a server and on a directory, and acted upon."""
import json
import os
import shutil
import tempfile

from lib import ROOT, Server, check, equal, get, lymer, otlp, scenario, send, until

RULES = "keep error for 30d; keep service pay for 14d; drop after 24h"


def filled(server):
    kept = []
    for i in range(10):
        trace, message = otlp(service="pay" if i == 3 else "cart", spans=4,
                              status={"code": 2} if i == 5 else {})
        kept += [trace] if i in (3, 5) else []
        equal(send(server, message)[0], 200, "send")
    return kept


@scenario
def rules_are_tried_first():
    with Server("--retention-rules", RULES) as server:
        filled(server)
        said = json.loads(lymer("retention", "--dry-run", "--url", server.url("", "admin"), "-o", "json").stdout)
        equal([r["traces"] for r in said["rules"]], [1, 1], said)
        equal((said["kept"]["spans"], said["all"]["spans"]), (8, 40), said)
        other = lymer("retention", "--dry-run", "--url", server.url("", "admin"), "--rules", "keep slow p99 for 3d").stdout
        check(b"kept by" in other and b"keep slow p99 for 3d" in other, other)
        wrong = lymer("retention", "--dry-run", "--url", server.url("", "admin"), "--rules", "keep slow", ok=False)
        equal(wrong.returncode, 2, wrong.stderr)
        check(b"p99 is expected" in wrong.stderr, wrong.stderr)
        server.stop()
        said = json.loads(lymer("retention", "--dry-run", "--data", server.data, "--rules", RULES, "-o", "json").stdout)
        equal(said["kept"]["traces"], 2, said)
        equal(lymer("retention", "--dry-run", "--data", server.data, ok=False).returncode, 2, "no rules")


@scenario
def rules_decide_what_stays():
    """On a store whose spans came long ago: tests/data/stores/v1."""
    kept, dropped = "b7e7772b396be41b896bbdabe7e1bff5", "c1e065f80077a990db64ab78c9ed6072"
    with tempfile.TemporaryDirectory(prefix="lymer-e2e-") as folder:
        data, config = os.path.join(folder, "data"), os.path.join(folder, "lymer.yaml")
        shutil.copytree(os.path.join(ROOT, "tests", "data", "stores", "v1", "store"), data)
        with open(config, "w", encoding="ascii") as f:
            f.write("retention.rules:\n  - keep attribute http.route=value-8 for 9000d\n  - drop after 24h\n")
        with Server("--config", config, data=data) as server:
            until(lambda: get(server.url(f"/api/traces/{dropped}"), raw=True)[0] == 404, 30, "the rest is dropped")
            equal(get(server.url(f"/api/traces/{kept}"), raw=True)[0], 200, "what a rule keeps")
            calls = get(server.url("/api/dependencies"), {"endTs": 1750100000000, "lookback": 200000000})["data"]
            check(calls, "calls are counted for ever")
            server.stop()


@scenario
def rules_that_make_no_sense_end_the_start():
    with Server("--retention-rules", "keep everything for 3d", wait=False) as server:
        equal(server.process.wait(20), 2, "exit code")
        check("retention rule 1" in server.output(), server.output())
