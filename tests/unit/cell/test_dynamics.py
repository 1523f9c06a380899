"""What accelerates the arm, against an arm that is accelerated."""

import numpy as np
import pybullet as p

from cell.interfaces import JointTrajectory
from cell.motion.dynamics import ROTOR_KG_M2, ArmDynamics
from cell.motion.trajectory import point_to_point
from twin.world import ARM_JOINTS, FINGER_JOINTS, panda_urdf

HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])


def test_torques_move_a_frictionless_arm_along_the_trajectory():
    trajectory = point_to_point(HOME, HOME + np.array([0.4, 0.3, -0.2, 0.3, 0.1, -0.2, 0.5]), goal="x", speed=0.5)
    with ArmDynamics() as dynamics:
        wanted = dynamics.inertial_torques(trajectory)
    ddq = np.gradient(trajectory.velocities_rad_s, trajectory.times_s, axis=0)
    world = p.connect(p.DIRECT)
    try:
        robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=world)
        p.setTimeStep(0.001, physicsClientId=world)
        for link in range(p.getNumJoints(robot, physicsClientId=world)):
            p.changeDynamics(robot, link, linearDamping=0, angularDamping=0, jointDamping=0, physicsClientId=world)
        for joint in (*ARM_JOINTS, *FINGER_JOINTS):
            p.setJointMotorControl2(robot, joint, p.VELOCITY_CONTROL, force=0, physicsClientId=world)
        for joint, angle in zip(ARM_JOINTS, HOME, strict=True):
            p.resetJointState(robot, joint, angle, physicsClientId=world)
        for row in range(len(wanted)):
            forces = (wanted - ROTOR_KG_M2 * ddq)[row]  # this arm has no rotors
            p.setJointMotorControlArray(robot, ARM_JOINTS, p.TORQUE_CONTROL, forces=forces, physicsClientId=world)
            p.stepSimulation(physicsClientId=world)
        ended = np.array([state[0] for state in p.getJointStates(robot, ARM_JOINTS, physicsClientId=world)])
    finally:
        p.disconnect(physicsClientId=world)
    np.testing.assert_allclose(ended, trajectory.positions_rad[-1], atol=0.02)


def test_nothing_is_needed_at_rest():
    still = JointTrajectory("x", np.array([0.0, 0.001, 0.002]), np.tile(HOME, (3, 1)), np.zeros((3, 7)))
    with ArmDynamics() as dynamics:
        np.testing.assert_allclose(dynamics.inertial_torques(still), 0.0, atol=1e-9)
