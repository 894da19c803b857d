# SPDX-License-Identifier: Apache-2.0
"""The command line against a real server and on a data directory."""
import json
import os
import re
import tempfile

from lib import LYMER, Server, check, equal, get, lymer, otlp, run, scenario, send


def out(*args, **more):
    return lymer(*args, **more).stdout.decode()


def load(server, *flags):
    text = out("load", "--endpoint", f"grpc://127.0.0.1:{server.port('grpc')}", *flags)
    return json.loads(text.strip().splitlines()[-1])


@scenario
def questions_have_the_answers_of_the_api():
    with Server() as server:
        url = ["--url", server.url()]
        sent = load(server, "--traces", "20", "--seed", "7")
        equal([sent["spans_accepted"], sent["spans_rejected"]], [sent["spans_sent"], 0], "load")
        services = get(server.url("/api/services"))["data"]
        check(len(services) >= 8, services)
        equal(json.loads(out("services", *url, "-o", "json")), services, "services")
        for s in services:
            check(s in out("services", *url), s)
        operations = get(server.url("/api/operations"), {"service": services[0]})["data"]
        listed = json.loads(out("ops", services[0], *url, "-o", "json"))
        equal(sorted(o["name"] for o in listed), sorted(o["name"] for o in operations), "operations")
        found = json.loads(out("search", *url, "--limit", "5", "-o", "json"))
        equal(len(found), 5, "search")
        trace = found[0].get("traceId") or found[0].get("traceID")
        text = out("trace", trace, *url, env={"COLUMNS": "80"})
        check("\x1b" not in text, "colour without a terminal")
        spans = get(server.url(f"/api/traces/{trace}"))["data"][0]["spans"]
        check(max(len(line) for line in text.splitlines()) <= 80, "wider than 80 columns:\n" + text)
        check(str(len(spans)) in text, text)
        check("\x1b" in out("trace", trace, *url, env={"CLICOLOR_FORCE": "1"}), "no colour when asked")
        for columns in (30, 60, 80, 120):  # the id is whole at any width: the next command needs it
            table = out("search", *url, "--limit", "3", env={"COLUMNS": str(columns)})
            check(trace in table, columns, table)
            check(columns < 80 or max(len(line) for line in table.splitlines()) <= columns, columns, table)
        links = get(server.url("/api/dependencies"))["data"]
        check(links, "no dependencies")
        for link in links:
            check(link["parent"] in out("deps", *url) and link["child"] in out("deps", *url), link)
        server.stop()


@scenario
def exit_codes():
    with Server(memory=True) as server:
        url = ["--url", server.url()]
        equal(run(LYMER, "trace", "1" * 32, *url, ok=False).returncode, 3, "not found")
        equal(run(LYMER, "trace", "zz", *url, ok=False).returncode, 2, "bad id")
        equal(run(LYMER, "nonsense", ok=False).returncode, 2, "unknown command")
        equal(run(LYMER, "services", "--url", "http://127.0.0.1:1", ok=False).returncode, 4, "unreachable")
        equal(run(LYMER, "services", *url).returncode, 0, "empty is fine")
        for command in ("serve", "load", "search", "trace", "services", "ops", "deps", "import", "export", "backup", "restore", "verify", "repair", "dump", "doctor",
                        "version"):
            text = out(command, "--help")
            check(command in text and len(text.splitlines()) > 3, command, text)
        check(re.match(r"lymer \d+\.\d+", out("version")), out("version"))
        for shell in ("bash", "zsh", "fish"):
            check("lymer" in out("completion", shell), shell)
        run("bash", "-n", input=lymer("completion", "bash").stdout)


@scenario
def export_and_import_lose_nothing():
    with Server() as one, Server() as two, tempfile.TemporaryDirectory() as d:
        load(one, "--traces", "50", "--seed", "3", "--errors", "20")
        file = os.path.join(d, "all.jsonl")
        first = lymer("export", "--url", one.url()).stdout
        check(len(first.splitlines()) == 50, "traces exported:", len(first.splitlines()))
        with open(file, "wb") as f:
            f.write(first)
        lymer("import", file, "--endpoint", two.url("/v1/traces", "otlp"))
        second = lymer("export", "--url", two.url()).stdout
        equal(sorted(second.splitlines()) == sorted(first.splitlines()), True, "export of the import is the export")
        one.stop()
        from_disk = lymer("export", "--data", one.data).stdout
        equal(sorted(from_disk.splitlines()) == sorted(first.splitlines()), True, "export of the directory is the export")
        equal(run(LYMER, "export", "--data", two.data, ok=False).returncode, 4, "a directory in use")

        # What stands before damage is taken, and counted: a line cut short, one that is not JSON, one that is wrong at its end.
        whole = first.splitlines()
        for n, broken in enumerate([whole[5][:300], b"garbage", whole[5][:-1] + b" !}"]):
            with open(file, "wb") as f:
                f.write(b"\n".join([*whole[:3], broken]))
            done = run(LYMER, "import", file, "--data", os.path.join(d, str(n)), "-o", "json", ok=False)
            told = json.loads(done.stdout)
            stored = lymer("export", "--data", os.path.join(d, str(n))).stdout.splitlines()
            equal((done.returncode, told["documents"], sorted(stored)), (2, 3, sorted(whole[:3])), done.stderr)
            equal(told["spans_accepted"], sum(x.count(b'"spanId"') for x in whole[:3]), "spans")
        done = run(LYMER, "import", file, "--endpoint", "http://127.0.0.1:1", ok=False)
        check(done.returncode == 2 and b"document 4" in done.stderr and b"127.0.0.1:1" in done.stderr, done.stderr)


@scenario
def same_seed_same_bytes():
    flags = ["--traces", "30", "--seed", "11"]
    with Server(memory=True) as one, Server(memory=True) as two:
        a, b = load(one, *flags), load(two, *flags)
        equal([a["bytes"], a["spans_sent"], a["traces"]], [b["bytes"], b["spans_sent"], b["traces"]], "sizes")
        equal([a["seed"], b["seed"]], [11, 11], "the seed of the flag")
        stored = len(lymer("export", "--url", one.url()).stdout.splitlines())
        said = [load(one, "--traces", "30") for _ in range(2)]
        check(said[0]["seed"] != said[1]["seed"], "two runs without a seed", said)
        equal(len(lymer("export", "--url", one.url()).stdout.splitlines()) - stored, 60, "traces of two runs without a seed")
        load(one, "--traces", "30", "--seed", str(said[0]["seed"]))
        equal(len(lymer("export", "--url", one.url()).stdout.splitlines()) - stored, 60, "the named seed gives the same traces again")
        for profile in ("flat", "deep", "wide"):
            said = load(one, "--traces", "3", "--profile", profile)
            equal(said["spans_accepted"], said["spans_sent"], profile)
        text = out("load", "--endpoint", f"http://127.0.0.1:{one.port('otlp')}/v1/traces", "--traces", "5", "--encoding", "json", "--compression", "gzip")
        said = json.loads(text.strip().splitlines()[-1])
        equal(said["spans_accepted"], said["spans_sent"], "json over http")
        text = out("load", "--endpoint", f"grpc://127.0.0.1:{one.port('grpc')}", "--traces", "5", "--compression", "zstd")
        said = json.loads(text.strip().splitlines()[-1])
        equal(said["spans_accepted"], said["spans_sent"], "zstd over grpc")


@scenario
def verify_and_doctor():
    with Server() as server:
        load(server, "--traces", "40")
        done = run(LYMER, "doctor", "--port-offset", str(server.offset), "--data", server.data, ok=False)
        equal(done.returncode, 0, "doctor on a healthy server: " + done.stdout.decode() + done.stderr.decode())
        server.stop()
        check("ok" in out("verify", server.data), "verify")
        blocks = os.path.join(server.data, "blocks")
        block = os.path.join(blocks, sorted(os.listdir(blocks))[0])
        size = os.path.getsize(block)
        with open(block, "r+b") as f:
            f.seek(size // 3)
            byte = f.read(1)
            f.seek(size // 3)
            f.write(bytes([byte[0] ^ 1]))
        done = run(LYMER, "verify", server.data, ok=False)
        check(done.returncode == 1, "verify of a damaged block ended with", done.returncode)
        check(os.path.basename(block).encode() in done.stdout + done.stderr, "which block?", done.stdout, done.stderr)
        with Server(data=server.data) as again:  # a damaged block does not keep the rest from starting
            trace, message = otlp()
            equal(send(again, message)[0], 200, "send")
            equal(len(get(again.url(f"/api/traces/{trace}"))["data"]), 1, "new trace beside a damaged block")
