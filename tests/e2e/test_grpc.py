# SPDX-License-Identifier: Apache-2.0
"""The gRPC door as tools that nobody here wrote see it."""
import subprocess

from lib import ROOT, VENV_PYTHON, Server, Skipped, check, equal, run, scenario, until


def nothing_is_left(server):
    """No request bytes are held once everybody is gone."""
    until(lambda: server.metrics()["lymer_inflight_bytes"] == 0, 20, "request bytes given back")


@scenario
def python_grpc_and_its_descriptors():
    with Server(memory=True) as server:
        run(VENV_PYTHON, f"{ROOT}/tests/e2e/grpc_python.py", str(server.port("grpc")), timeout=120)
        nothing_is_left(server)
        m = server.metrics()
        # Client and server both watch the deadline: whoever is first ends the call. Either way it is counted.
        ended = [m[f'lymer_calls_ended_total{{reason="{reason}"}}'] for reason in ("deadline", "cancelled")]
        check(sum(ended) >= 1, "deadlines counted", ended)
        check(m['lymer_requests_bad_total{reason="size"}'] >= 2, "sizes counted")
        server.stop()


@scenario
def grpcurl_lists_describes_and_calls():
    with Server(memory=True) as server:
        done = subprocess.run([f"{ROOT}/tests/e2e/grpcurl.sh", str(server.port("grpc"))], capture_output=True, timeout=600)
        if done.returncode == 77:
            raise Skipped("no grpcurl and no go to install it with; python_grpc_and_its_descriptors covers the protocol")
        equal(done.returncode, 0, done.stdout.decode() + done.stderr.decode())
        server.stop()


@scenario
def hostile_grpc_gets_a_status():
    with Server(memory=True) as server:
        run(VENV_PYTHON, f"{ROOT}/tests/e2e/grpc_hostile.py", str(server.port("grpc")), timeout=120)
        nothing_is_left(server)
        check(server.process.poll() is None, "server ended")
        server.stop()
