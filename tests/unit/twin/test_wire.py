"""The robot's wire: structures, sessions, refusals, lock-step and limits, seen by a client of a few lines."""

import contextlib
import ctypes
import shutil
import socket
import subprocess
import sys

import numpy as np
import pybullet as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.config import load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.motion.panda import FLANGE_M, Q_MAX, TCP_M, forward
from cell.setup import Order, Setup
from twin.wire import structs
from twin.wire.model import Model, library_file
from twin.wire.server import Server, Serving
from twin.wire.structs import Fault, GripperCall, Moved, RobotCall, RobotMode

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: apt-get install gcc libc6-dev"
)


@pytest.fixture(scope="module")
def server(loopback):
    order = Order(load_cell("twin"), load_part("ring"), load_production("good"), range(1))
    with Server(Setup(order, None), Serving(loopback(), pace=1e4, deadline_s=0.002)) as served:
        yield served


class Client:
    """Speaks one of the protocols to a server that is stepped by hand."""

    def __init__(self, server, port, header, requests, version):
        self.server, self.header, self.requests = server, header, requests
        self.tcp = socket.create_connection((server.serving.host, port))
        self.tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tcp.setblocking(False)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.number = -1
        self.heard = b""
        self.version = version

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tcp.close()
        self.udp.close()
        self.steps(2)

    def connect(self):
        return self.ask(0, version=self.version, udp_port=self.udp.getsockname()[1])

    def ask(self, call, steps=3, **fields):
        self.number += 1
        request = np.zeros((), self.requests[call])
        for name, value in fields.items():
            request[name] = value
        size = self.header.itemsize + request.dtype.itemsize
        self.tcp.sendall(np.array((call, self.number, size), self.header).tobytes() + request.tobytes())
        self.steps(steps)
        return self.answer()

    def answer(self):
        """The status of the next answer, or None."""
        with contextlib.suppress(BlockingIOError):
            self.heard += self.tcp.recv(1 << 16)
        if not self.heard:
            return None
        head = np.frombuffer(self.heard, self.header, 1)[0]
        message, self.heard = self.heard[: head["size"]], self.heard[head["size"] :]
        return message[self.header.itemsize]

    def steps(self, count):
        for _ in range(count):
            self.server.step()

    def state(self, kind=structs.ROBOT_STATE):
        newest = None
        try:
            while True:
                newest, self.sender = self.udp.recvfrom(4096)
        except BlockingIOError:
            return np.frombuffer(newest, kind)[0]

    def command(self, **fields):
        """Answer the newest state and let a millisecond pass."""
        command = np.zeros((), structs.ROBOT_COMMAND)
        command["message_id"] = self.state()["message_id"]
        for name, value in fields.items():
            command[name] = value
        self.udp.sendto(command.tobytes(), self.sender)
        self.server.step()


@pytest.fixture
def robot(server):
    header, requests = structs.ROBOT_HEADER, structs.ROBOT_REQUESTS
    with Client(server, 1337, header, requests, structs.ROBOT_VERSION) as client:
        assert client.connect() == 0
        yield client
        server.robot.release_stop()
        client.ask(RobotCall.STOP_MOVE)
        client.ask(RobotCall.AUTOMATIC_ERROR_RECOVERY)


@pytest.fixture
def hand(server):
    header, requests = structs.GRIPPER_HEADER, structs.GRIPPER_REQUESTS
    with Client(server, 1338, header, requests, structs.GRIPPER_VERSION) as client:
        assert client.connect() == 0
        yield client


def test_structures_are_as_long_as_libfrankas():
    assert structs.ROBOT_STATE.itemsize == 2373 and structs.ROBOT_COMMAND.itemsize == 370
    assert structs.GRIPPER_STATE.itemsize == 23
    assert [structs.ROBOT_STATE.fields[name][1] for name in ("q", "errors", "robot_mode")] == [1184, 2282, 2364]
    assert structs.ROBOT_COMMAND.fields["tau_J_d"][1] == 314
    robot = [structs.ROBOT_REQUESTS[call].itemsize + 12 for call in RobotCall]
    assert robot == [16, 68, 12, 16, 428, 68, 60, 19, 140, 140, 116, 52, 12, 14]
    assert [structs.GRIPPER_REQUESTS[call].itemsize + 10 for call in GripperCall] == [14, 10, 50, 26, 10]


@needs_compiler
def test_library_has_all_thirty_functions():
    library = ctypes.CDLL(str(library_file()))
    frames = [f"{kind}_J{n}" for kind in ("O_T", "O_J", "Ji_J") for n in range(1, 10)]
    assert all(hasattr(library, name) for name in [*frames, "M_NE", "c_NE", "g_NE"])


@needs_compiler
@given(st.lists(st.floats(-2.8, 2.8), min_size=7, max_size=7))
def test_library_has_the_kinematics_of_the_cell(q):
    q, model = np.array(q), Model(library_file())
    c = np.sqrt(0.5)
    tool = np.array([[c, c, 0, 0], [-c, c, 0, 0], [0, 0, 1, TCP_M], [0, 0, 0, 1]]).T.reshape(16)
    pose = model.end_effector(q, tool).reshape(4, 4).T
    np.testing.assert_allclose(pose[:3, 3], forward(q).position_m, atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3], forward(q).rotation, atol=1e-12)
    step = 1e-6 * np.eye(7)
    slopes = [(forward(q + d).position_m - forward(q - d).position_m) / 2e-6 for d in step]
    np.testing.assert_allclose(model.jacobian(q, tool)[:3].T, slopes, atol=1e-8)
    flange = model.end_effector(q, np.eye(4).reshape(16))[12:15]
    assert np.linalg.norm(flange - model.frame_origin(q, 6)) == pytest.approx(FLANGE_M)


def test_without_a_compiler_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="apt-get install gcc"):
        library_file()


@needs_compiler
def test_another_version_is_refused(server):
    with Client(server, 1337, structs.ROBOT_HEADER, structs.ROBOT_REQUESTS, 10) as client:
        assert client.connect() == 1


@needs_compiler
def test_second_connection_is_refused_at_once(robot):
    with socket.create_connection((robot.server.serving.host, 1337)) as second:
        robot.steps(2)
        second.settimeout(1)
        with pytest.raises(ConnectionResetError):
            second.recv(1)


@needs_compiler
@settings(max_examples=60)
@given(st.binary(max_size=80), st.sampled_from([*RobotCall]), st.booleans())
def test_random_and_truncated_bytes_do_no_harm(server, noise, call, framed):
    words = np.array((call, 0, 12 + len(noise)), structs.ROBOT_HEADER).tobytes() + noise if framed else noise
    for port in (1337, 1338):
        with socket.create_connection((server.serving.host, port)) as client:
            client.sendall(words)
            for _ in range(2):
                server.step()
    for _ in range(3):
        server.step()
    with Client(server, 1337, structs.ROBOT_HEADER, structs.ROBOT_REQUESTS, structs.ROBOT_VERSION) as after:
        assert after.connect() == 0 and after.state()["robot_mode"] == RobotMode.IDLE


@needs_compiler
@pytest.mark.parametrize("cut", [0, 1, 369, 371, 2000])
def test_datagrams_of_another_length_are_no_commands(robot, cut):
    robot.ask(RobotCall.MOVE, controller_mode=structs.EXTERNAL, motion_generator_mode=structs.JOINT_VELOCITY)
    robot.state()
    robot.udp.sendto(b"\xff" * cut, robot.sender)
    robot.steps(2)
    assert robot.state()["robot_mode"] == RobotMode.MOVE


@needs_compiler
def test_motion_begins_is_answered_twice_and_ends(robot):
    external = {"controller_mode": structs.EXTERNAL, "motion_generator_mode": structs.JOINT_VELOCITY}
    assert robot.ask(RobotCall.MOVE, **external) == Moved.STARTED
    state = robot.state()
    assert (state["motion_generator_mode"], state["controller_mode"]) == (2, 2)
    robot.steps(1)
    before = state["q"][6]
    for _ in range(200):
        robot.command(tau_J_d=[0, 0, 0, 0, 0, 0, 1.0])
    state = robot.state()
    assert state["control_command_success_rate"] > 0.9 and state["tau_J_d"][6] == 1.0
    # Half of the torque goes into dry friction; the other half turns the last joint.
    assert 0.001 < state["q"][6] - before < 0.1
    robot.steps(1)
    robot.command(motion_generation_finished=True)
    assert robot.answer() == Moved.SUCCESS
    state = robot.state()
    assert (state["motion_generator_mode"], state["controller_mode"], state["robot_mode"]) == (0, 3, RobotMode.IDLE)


@needs_compiler
def test_torque_within_dry_friction_moves_nothing_and_gravity_is_compensated(robot):
    robot.ask(RobotCall.MOVE, controller_mode=structs.EXTERNAL, motion_generator_mode=structs.JOINT_VELOCITY)
    robot.steps(1)
    before = robot.state()["q"]
    robot.steps(1)
    for _ in range(300):
        robot.command(tau_J_d=[0.3] * 7)
    robot.steps(1)
    np.testing.assert_allclose(robot.state()["q"], before, atol=2e-4)


@needs_compiler
def test_client_that_falls_silent_ends_in_the_communication_error(robot):
    robot.ask(RobotCall.MOVE, controller_mode=structs.EXTERNAL, motion_generator_mode=structs.JOINT_VELOCITY)
    robot.steps(1)
    robot.command()
    robot.steps(30)
    assert robot.answer() == Moved.REFLEX
    state = robot.state()
    assert state["errors"][Fault.COMMUNICATION] and state["robot_mode"] == RobotMode.REFLEX
    assert robot.ask(RobotCall.MOVE, controller_mode=2, motion_generator_mode=1) == Moved.NOT_POSSIBLE
    assert robot.ask(RobotCall.AUTOMATIC_ERROR_RECOVERY) == 0
    assert not robot.state()["errors"].any()


@needs_compiler
@pytest.mark.parametrize(
    "torque, fault",
    [([5.0, 0, 0, 0, 0, 0, 0], Fault.TORQUE_DISCONTINUITY), ([0, 0, 0, 0, 0, 0, 13.0], Fault.TORQUE_RANGE)],
)
def test_torques_that_no_robot_takes_end_the_motion(robot, torque, fault):
    robot.ask(RobotCall.MOVE, controller_mode=structs.EXTERNAL, motion_generator_mode=structs.JOINT_VELOCITY)
    robot.steps(1)
    robot.command(tau_J_d=torque)
    assert robot.answer() == Moved.REFLEX and robot.state()["errors"][fault]


@needs_compiler
def test_joint_that_is_driven_to_its_end_stops_there(robot, server):
    robot.ask(RobotCall.MOVE, controller_mode=structs.EXTERNAL, motion_generator_mode=structs.JOINT_VELOCITY)
    robot.steps(1)
    before = robot.state()["q"]
    robot.steps(1)
    for _ in range(4000):
        robot.command(tau_J_d=[0, 0, 0, 0, 0, 0, 1.0])
        if not server.robot.moving:
            break
    assert robot.answer() == Moved.REFLEX
    robot.steps(1)
    state = robot.state()
    assert state["errors"][Fault.JOINT_POSITION_LIMITS] and state["q"][6] == pytest.approx(Q_MAX[6], abs=0.01)
    # Somebody turns it back.
    p.resetJointState(server.world.robot, 6, before[6], physicsClientId=server.world._client)
    server.world.drive_arm(before, np.zeros(7))
    robot.steps(10)


@needs_compiler
def test_stop_preempts_and_the_button_ends_in_emergency(robot, server):
    external = {"controller_mode": structs.EXTERNAL, "motion_generator_mode": structs.JOINT_VELOCITY}
    robot.ask(RobotCall.MOVE, **external)
    assert robot.ask(RobotCall.STOP_MOVE) == Moved.PREEMPTED and robot.answer() == 0
    robot.ask(RobotCall.MOVE, **external)
    server.robot.press_stop()
    assert robot.answer() == Moved.EMERGENCY
    robot.steps(1)
    assert robot.state()["robot_mode"] == RobotMode.USER_STOPPED


@needs_compiler
def test_settings_change_the_state_or_are_refused(robot):
    shifted = np.eye(4)
    shifted[2, 3] = 0.1
    before = robot.state()["O_T_EE"]
    assert robot.ask(RobotCall.SET_NE_TO_EE, pose=shifted.T.reshape(16)) == 0
    after = robot.state()
    assert before[14] - after["O_T_EE"][14] == pytest.approx(0.1, abs=1e-6)
    assert robot.ask(RobotCall.SET_NE_TO_EE, pose=np.eye(4).reshape(16)) == 0
    assert robot.ask(RobotCall.SET_NE_TO_EE, pose=np.full(16, 2.0)) == 2
    assert robot.ask(RobotCall.SET_LOAD, mass=-1.0) == 2
    # A load that is not there lifts the arm, in the estimate of what presses from outside.
    assert robot.ask(RobotCall.SET_LOAD, mass=1.0, steps=100) == 0
    state = robot.state()
    assert state["m_load"] == 1.0 and state["tau_ext_hat_filtered"][1] < -2
    assert robot.ask(RobotCall.SET_LOAD, mass=0.0, steps=100) == 0
    assert robot.ask(RobotCall.MOVE, controller_mode=9) == Moved.INVALID_ARGUMENT
    assert robot.ask(RobotCall.MOVE, controller_mode=1, motion_generator_mode=2) == Moved.NOT_POSSIBLE


@needs_compiler
def test_hand_moves_and_finds_nothing_to_grasp(hand):
    assert hand.ask(GripperCall.MOVE, width=0.05, speed=0.1, steps=700) == 0
    assert hand.state(structs.GRIPPER_STATE)["width"] == pytest.approx(0.05, abs=1e-3)
    assert hand.ask(GripperCall.GRASP, width=0.02, inner=0.004, outer=0.004, speed=0.1, force=20, steps=1200) == 2
    assert hand.ask(GripperCall.MOVE, width=0.5, speed=0.1) == 1
    assert hand.ask(GripperCall.MOVE, width=0.08, speed=0.1, steps=50) is None
    assert hand.ask(GripperCall.STOP) == 3 and hand.answer() == 0


def test_command_line_names_itself():
    run = subprocess.run(
        [sys.executable, "-m", "twin.wire", "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--host" in run.stdout
