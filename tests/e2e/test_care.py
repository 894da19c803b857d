# SPDX-License-Identifier: Apache-2.0
"""Backup, restore, repair and dump as a user would use them."""
import json
import os
import re
import tempfile
import threading
import time
import urllib.parse

from lib import LYMER, Server, check, equal, get, lymer, otlp, request, run, scenario, send, whole_spans


def load(server, *flags):
    lymer("load", "--endpoint", f"http://127.0.0.1:{server.port('otlp')}/v1/traces", *flags)


def exported(*where):
    """Trace id: its line. A trace may have grown since, so lines are compared by who knows better."""
    lines = lymer("export", *where).stdout.splitlines()
    return {json.loads(x)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"]: x for x in lines}


@scenario
def backup_of_a_server_under_load():
    with Server("--memtable", "256KiB") as server, tempfile.TemporaryDirectory() as d:
        load(server, "--traces", "100", "--seed", "1")
        before = exported("--url", server.url())
        stop, sent = threading.Event(), [0]

        def keep_loading():
            while not stop.is_set():
                load(server, "--traces", "20", "--seed", str(100 + sent[0]))
                sent[0] += 1

        loader = threading.Thread(target=keep_loading)
        loader.start()
        try:
            for i in range(2):
                dest = os.path.join(d, f"backup-{i}")
                trace, message = otlp(service=f"mark-{i}")
                equal(send(server, message)[0], 200, "send")
                said = json.loads(lymer("backup", dest, "--data", server.data, "-o", "json", *(["--copy"] if i % 2 else [])).stdout)
                equal(said["blocks_linked"], 0 if i % 2 else said["blocks"], "linked")
                check(b"damaged" not in lymer("verify", dest).stdout, "verify of a backup")
                restored = os.path.join(d, f"restored-{i}")
                lymer("restore", dest, restored)
                now = exported("--data", restored)
                check(trace in now, "the trace acknowledged just before backup", i)
                lost = [t for t, line in before.items() if now.get(t) != line]
                check(not lost, len(lost), "traces of before backup", i, "are not in it")
                check(b"nothing is damaged" in lymer("repair", restored).stdout, "repair of what is whole")
        finally:
            stop.set()
            loader.join()
        check(sent[0] > 0, "nothing was sent meanwhile")
        last = os.path.join(d, "last")
        everything = exported("--url", server.url())
        lymer("backup", last, "--data", server.data)
        server.stop()
        with Server(data=last) as copy:
            equal(exported("--url", copy.url()) == everything, True, "a server on the backup has every trace")
            copy.stop()


@scenario
def backup_refuses_to_overwrite():
    with Server() as server, tempfile.TemporaryDirectory() as d:
        load(server, "--traces", "5")
        dest = os.path.join(d, "b")
        lymer("backup", dest, "--data", server.data)
        again = run(LYMER, "backup", dest, "--data", server.data, ok=False)
        equal(again.returncode, 1, "a destination that is not empty")
        check(b"not empty" in again.stderr, again.stderr)
        equal(run(LYMER, "restore", dest, server.data, ok=False).returncode, 1, "into a directory in use")
        os.symlink(dest, os.path.join(d, "link"))
        for inside in ("", "/blocks", "/new/deep/", "/../b/new"):
            for target in (dest, os.path.join(d, "link")):
                done = run(LYMER, "restore", dest, target + inside, ok=False)
                check(done.returncode == 2 and b"lies inside" in done.stderr, inside, done.stderr)
        equal(os.path.exists(os.path.join(dest, "new")), False, "nothing was made")
        lymer("restore", dest, dest + "2")  # a name that only begins alike
        equal(run(LYMER, "backup", os.path.join(d, "c"), "--data", os.path.join(d, "none"), ok=False).returncode, 3, "no store")
        with open(os.path.join(dest, "FORMAT"), "w") as f:
            f.write("a backup that was not finished\n")
        for command in (["verify", dest], ["serve", "--data", dest, "--port-offset", "1"], ["restore", dest, os.path.join(d, "r")]):
            done = run(LYMER, *command, ok=False)
            check(done.returncode != 0 and b"not finished" in done.stderr, command, done.stderr)


def flip(path, at, bit=1):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ bit]))


def spans(lines):
    return set(whole_spans(lines.values()))


def refused(command, door, where, why):
    done = run(LYMER, *command, door, where, ok=False)
    check(done.returncode not in (0, 2) and why in done.stderr, command, done.returncode, done.stderr)


@scenario
def searches_go_on_beside_damage():
    """What cannot be read is left out of the answer, and every door says so."""
    question = {"minDuration": "1us", "limit": 1500, "lookback": "48h"}
    with Server("--memtable", "256KiB", "--compact-cpu-percent", "0") as server:  # blocks stay many
        oldest, message = otlp("first", start=time.time_ns() - 600 * 10**9)
        equal(send(server, message)[0], 200, "sent")
        load(server, "--traces", "400")
        whole = get(server.url("/api/traces"), question)
        check(whole["errors"] is None and "coverage" not in whole, "whole", whole["errors"])
        server.stop()
        blocks = os.path.join(server.data, "blocks")
        victim = os.path.join(blocks, sorted(os.listdir(blocks))[1])
        rows = json.loads(lymer("dump", victim, "-o", "json").stdout)
        for column in (r for r in rows if r.get("name") == "shape" or r.get("key") == "session.id"):
            flip(victim, column["at"] + column["bytes"] // 2)

        with Server("--compact-cpu-percent", "0", data=server.data) as again:
            status, body, headers = request("GET", again.url("/api/traces?" + urllib.parse.urlencode(question)))
            equal(status, 200, body[:300])
            equal(headers.get("x-search-complete"), "false", "header")
            answer = json.loads(body)
            check(0 < len(answer["data"]) < len(whole["data"]), len(answer["data"]), len(whole["data"]))
            check(any("what is damaged was left out" in e["msg"] and "traceID" not in e for e in answer["errors"]), answer["errors"])
            told = answer["coverage"]
            equal((told["complete"], told["damagedBlocks"]), (False, 1), told)
            equal(told.get("unreadableTraces", 0), len([e for e in answer["errors"] if "traceID" in e]), told)
            window = {"query.durationMin": "1us", "query.searchDepth": 1500, "query.startTimeMin": "2020-01-01T00:00:00Z", "query.startTimeMax": "2100-01-01T00:00:00Z"}
            status, body, headers = request("GET", again.url("/api/v3/trace-summaries?" + urllib.parse.urlencode(window)))
            told = json.loads(body)
            equal((status, headers.get("x-search-complete"), told["coverage"]["complete"]), (200, "false", False), told["coverage"])
            equal(len(told["summaries"]), len(answer["data"]), "summaries")
            status, body, headers = request("GET", again.url("/api/v3/traces?" + urllib.parse.urlencode(window)))
            equal((status, headers.get("x-search-complete")), (200, "false"), body[:300])
            found = {s["traceId"] for g in json.loads(body)["result"]["resourceSpans"] for x in g["scopeSpans"] for s in x["spans"]}
            equal(len(found), len(answer["data"]), "traces")
            equal(again.metrics()["lymer_blocks_damaged_total"], 1, "counted once")
            done = lymer("search", "--url", again.url(), "--min", "1us", "--limit", "1500", "-o", "id")
            check(b"lymer repair" in done.stderr and 0 < len(done.stdout.split()) < len(whole["data"]), done.stderr)
            lost = next(t["traceID"] for t in whole["data"] if t["traceID"] not in {t["traceID"] for t in answer["data"]})
            refused(("trace", lost), "--url", again.url(), b"lymer repair")
            refused(("values", "session.id"), "--url", again.url(), b"lymer repair")
            refused(("export", "--service", "nowhere"), "--url", again.url(), b"lymer repair")
            done = run(LYMER, "export", "--url", again.url(), ok=False)
            equal(done.returncode, 4, done.stderr)
            check(b"its log says why" in done.stderr and oldest.encode() in done.stdout, done.stderr)  # what stands before
            again.stop()
        done = lymer("search", "--data", server.data, "--min", "1us", "--limit", "1500", "-o", "id")
        check(b"lymer repair" in done.stderr and done.stdout, done.stderr)
        for command in (("trace", lost), ("values", "session.id"), ("export",)):
            refused(command, "--data", server.data, b"lymer repair")
        equal(run(LYMER, "repair", server.data, ok=False).returncode, 1, "something was repaired")
        with Server(data=server.data) as repaired:
            answer = get(repaired.url("/api/traces"), question)
            check(answer["errors"] is None and "coverage" not in answer, "whole again", answer["errors"])
            repaired.stop()


@scenario
def repair_and_dump():
    with Server("--memtable", "256KiB") as server:
        load(server, "--traces", "400", "--seed", "5")
        before = exported("--url", server.url())
        equal(run(LYMER, "repair", server.data, ok=False).returncode, 4, "a directory in use")
        server.stop()
        blocks = os.path.join(server.data, "blocks")
        names = sorted(os.listdir(blocks))
        check(len(names) > 2, names)
        victim = os.path.join(blocks, names[1])

        # Where is the span id column of the first row group? The dump knows.
        rows = json.loads(lymer("dump", victim, "-o", "json").stdout)
        column = next(r for r in rows if r["row"] == "column" and r.get("name") == "span id")
        equal(column["checksum"], "ok", "checksum")
        flip(victim, column["at"] + column["bytes"] // 2)
        done = run(LYMER, "dump", victim, ok=False)
        equal(done.returncode, 1, "dump of a damaged block")
        bad = [x for x in done.stdout.decode().splitlines() if "checksum=bad" in x]
        check(len(bad) == 1 and "span id" in bad[0], bad)

        dry = run(LYMER, "repair", server.data, "--dry-run", ok=False)
        equal(dry.returncode, 1, "dry run")
        check(b"would be set aside" in dry.stdout and os.path.exists(victim), dry.stdout)
        done = run(LYMER, "repair", server.data, ok=False)
        equal(done.returncode, 1, "something was repaired")
        check(names[1].encode() in done.stdout and b"spans of tenant default that began between" in done.stdout, done.stdout)
        check(not os.path.exists(victim) and os.path.exists(os.path.join(server.data, "damaged", names[1])), "set aside")
        equal(run(LYMER, "repair", server.data, ok=False).returncode, 0, "nothing is left to repair")
        after = exported("--data", server.data)
        lost = spans(before) - spans(after)
        check(lost and spans(after) < spans(before), "what is there is as it was")
        said = re.search(rb"lost: (\d+) spans", done.stdout)
        equal(int(said[1]), len(lost), "what it says is lost")

        # A damaged index, and a damaged attribute column: every trace stays.
        victim = os.path.join(blocks, names[2])
        rows = json.loads(lymer("dump", victim, "-o", "json").stdout)
        flip(victim, next(r for r in rows if r["row"] == "tail")["at"] + 1)
        equal(run(LYMER, "verify", server.data, ok=False).returncode, 1, "verify")
        equal(run(LYMER, "repair", server.data, ok=False).returncode, 1, "repair")
        equal(exported("--data", server.data) == after, True, "a damaged index costs nothing")

        flip(os.path.join(server.data, "MANIFEST"), 3)
        done = run(LYMER, "repair", server.data, "-o", "json", ok=False)
        equal(json.loads(done.stdout)["repaired"], True, done.stdout)
        equal(exported("--data", server.data) == after, True, "a damaged manifest costs no span")
        with Server(data=server.data) as again:
            check(get(again.url("/api/services"))["data"], "names are there again")
            again.stop()


@scenario
def a_lost_format_file_is_damage():
    with Server() as server:
        load(server, "--traces", "20")
        before = exported("--url", server.url())
        server.stop()
        os.unlink(os.path.join(server.data, "FORMAT"))
        for command in (["verify", server.data], ["search", "--data", server.data]):
            done = run(LYMER, *command, ok=False)
            check(done.returncode == 1 and b"FORMAT" in done.stderr and b"lymer repair" in done.stderr, command, done.stderr)
        equal(run(LYMER, "repair", server.data, ok=False).returncode, 1, "something was repaired")
        equal(spans(exported("--data", server.data)) == spans(before), True, "every span")
