"""The arm's and the hand's driver against the robot's wire protocol, each in a process of its own."""

import json
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("panda_py", reason="pip install 'twinspect[hardware]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: apt-get install gcc libc6-dev"
    ),
]

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests" / "support" / "panda_client.py"
LIMIT_S = 60


@contextmanager
def serving(host):
    command = [sys.executable, "-m", "twin.wire", "--host", host]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            while "listens" not in (line := server.stdout.readline()):
                assert line, "the server ended"
            yield server
        finally:
            server.kill()


def started(host, what):
    return subprocess.Popen(
        [sys.executable, CLIENT, host, what],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(client):
    try:
        said, complained = client.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        client.kill()
        raise
    assert client.returncode == 0, complained
    return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def host(loopback):
    address = loopback()
    with serving(address):
        yield address


def test_motions_end_within_tolerance_in_spite_of_friction(host):
    result = ended(started(host, "motions"))
    assert max(result["ends_mm"]) <= 0.3 and result["rate"] >= 0.9


def test_collision_ends_in_a_reflex_that_somebody_must_acknowledge(host):
    result = ended(started(host, "reflex"))
    assert "reflex" in result["said"] and "acknowledge" in result["again"] and result["off_mm"] <= 0.3


def test_joint_limit_ends_in_a_reflex_that_somebody_must_acknowledge(loopback):
    address = loopback()
    with serving(address):
        result = ended(started(address, "limit"))
    assert "joint_position_limits_violation" in result["said"] and "acknowledge" in result["again"]
    assert abs(result["past_rad"]) < 0.05


def test_stop_ends_a_motion(host):
    assert "preempted" in ended(started(host, "stopped"))["said"]


def test_impossible_trajectories_are_refused(host):
    result = ended(started(host, "refused"))
    assert "joint" in result["fast"] and "from the start" in result["elsewhere"]


def test_hand_says_what_it_holds(host):
    result = ended(started(host, "hand"))
    assert not result["held"] and result["closed_m"] < 0.002 and result["open_m"] > 0.079


def test_connection_lost_in_motion_is_named(loopback):
    address = loopback()
    with serving(address) as server:
        client = started(address, "lost")
        assert client.stdout.readline() == "moving\n"
        server.kill()
        assert "it is gone" in ended(client)["said"]


def test_robot_that_is_not_there_is_named(loopback):
    address = loopback()
    assert address in ended(started(address, "absent"))["said"]
