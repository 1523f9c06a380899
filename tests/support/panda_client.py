"""Run in a process of its own: the client library may hang or end its process when its robot misbehaves."""

import json
import sys
import threading
import time

import numpy as np

import cell.drivers.panda
from cell.drivers.panda import PandaArm, PandaArmConfig, PandaGripper, PandaGripperConfig
from cell.interfaces import CellError, JointTrajectory
from cell.motion.panda import Q_MAX, forward
from cell.motion.trajectory import point_to_point

HOST, WHAT = sys.argv[1:3]
FIRST = np.array([0.3, 0.1, -0.2, 0.1, 0.2, 0.2, -0.3])


def arm():
    return PandaArm(PandaArmConfig(host=HOST, realtime="ignore"), None)


def away_mm(arm, goal):
    return float(np.linalg.norm(forward(arm.state().positions_rad).position_m - forward(goal).position_m)) * 1000


def motions():
    """Two motions and how far from their goals they ended."""
    with arm() as one:
        here = one.state().positions_rad
        ends, rates = [], []
        for goal in (here + FIRST, here):
            rates.append(one.follow(point_to_point(one.state().positions_rad, goal, goal="there", speed=0.4)))
            ends.append(away_mm(one, goal))
        return {"ends_mm": ends, "rate": min(rates)}


def named(error, call):
    try:
        call()
    except CellError as raised:
        assert type(raised).__name__ == error, raised
        return str(raised)
    raise AssertionError(f"no {error}")


def reflex():
    """Into the table; nothing moves before somebody acknowledged."""
    with arm() as one:
        here = one.state().positions_rad
        down = here + np.array([0, 1.6, 0, 0.0, 0, 0, 0])
        said = named("ReflexStop", lambda: one.follow(point_to_point(here, down, goal="the table", speed=0.4)))
        time.sleep(0.5)
        back = one.state().positions_rad
        home = point_to_point(back, here, goal="home", speed=0.3)
        again = named("ReflexStop", lambda: one.follow(home))
        named("ReflexStop", lambda: one.recover(acknowledged_by=""))
        one.recover(acknowledged_by="a test")
        one.follow(point_to_point(one.state().positions_rad, here, goal="home", speed=0.3))
        return {"said": said, "again": again, "off_mm": away_mm(one, here)}


def limit():
    """Past the stop of the hand's joint, as if the driver had not looked: the robot does."""
    cell.drivers.panda.violation = lambda trajectory: None
    with arm() as one:
        here = one.state().positions_rad
        half = point_to_point(here, np.append(here[:-1], (here[-1] + Q_MAX[-1] + 0.3) / 2), goal="half", speed=0.3)
        positions = here + 2 * (half.positions_rad - here)
        past = JointTrajectory("past the stop", 2 * half.times_s, positions, half.velocities_rad_s)
        said = named("ReflexStop", lambda: one.follow(past))
        again = named("ReflexStop", lambda: one.follow(half))
        named("ReflexStop", lambda: one.recover(acknowledged_by=""))
        return {"said": said, "again": again, "past_rad": float(one.state().positions_rad[-1] - Q_MAX[-1])}


def stopped():
    """`stop` ends a motion that runs, and holds."""
    with arm() as one:
        here = one.state().positions_rad
        slow = point_to_point(here, here + FIRST, goal="there", speed=0.2)
        threading.Timer(0.5, one.stop).start()
        said = named("ReflexStop", lambda: one.follow(slow))
        one.recover(acknowledged_by="a test")
        one.follow(point_to_point(one.state().positions_rad, here, goal="home", speed=0.4))
        return {"said": said}


def refused():
    """Over its limits, and from elsewhere."""
    with arm() as one:
        here = one.state().positions_rad
        plan = point_to_point(here, here + FIRST, goal="there")
        fast = JointTrajectory("there", plan.times_s / 20, plan.positions_rad, plan.velocities_rad_s * 20)
        return {
            "fast": named("MotionRejected", lambda: one.follow(fast)),
            "elsewhere": named("MotionRejected", lambda: one.follow(point_to_point(here + 0.2, here, goal="x"))),
        }


def lost():
    """The server ends meanwhile."""
    with arm() as one:
        here = one.state().positions_rad
        print("moving", flush=True)
        slow = point_to_point(here, here + FIRST, goal="there", speed=0.1)
        return {"said": named("NotConnected", lambda: one.follow(slow))}


def nobody():
    """Nobody listens there."""
    with PandaGripper(PandaGripperConfig(host=HOST), None) if WHAT == "hand" else arm():
        pass


def hand():
    """Open, close on nothing, open."""
    with PandaGripper(PandaGripperConfig(host=HOST), None) as one:
        one.release()
        grasp = one.grasp(0.002, 20.0)
        one.release()
        return {"held": grasp.held, "closed_m": grasp.width_m, "open_m": one.state().width_m}


def absent():
    """Nobody listens at this address."""
    return {"said": named("NotConnected", nobody)}


print(json.dumps(globals()[WHAT]()), flush=True)
