"""The arm in the world, driven by torques: gravity compensation, friction, payload, and what presses against it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from cell.interfaces import N_JOINTS
from cell.motion.dynamics import ROTOR_KG_M2
from cell.motion.round import place_pose
from twin.snapshot import PartBody
from twin.wire.model import Model
from twin.world import ARM_JOINTS, FINGER_JOINTS, GRAVITY_M_S2, HAND_LINK, World

STEP_S = 0.001
# Dry and viscous friction of each joint.
COULOMB_NM = 0.5
_VISCOUS_NMS = 0.5
_HOLD_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
# The external torque is filtered, as the robot's estimate is; an impact of a few milliseconds is felt all the same.
_FILTER_S = 0.01
# After a reflex the arm yields at this rate to what presses harder than so many Nm.
_YIELD_RAD_S_NM = 0.02
_PRESSING_NM = 1.0
_DISC = np.array([0.5, 0.5, 1.0])

_Drive = Literal["hold", "yield", "torque", "impedance"]


@dataclass(frozen=True)
class Load:
    """What the client says that the hand carries, in the flange's frame."""

    mass_kg: float = 0.0
    centre_m: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    inertia: NDArray[np.float64] = field(default_factory=lambda: np.zeros(9))


@dataclass
class Target:
    """What the robot's own joint impedance control follows while the client commands motions."""

    q: NDArray[np.float64]
    dq: NDArray[np.float64]


class ServedWorld(World):
    """A world whose arm takes torques, and stays where it is when a part is presented."""

    def present(self, part: PartBody, offset_m: NDArray[np.float64], yaw_rad: float) -> None:
        """Take the last part away and lay a new one at the feeder."""
        self.let_go()
        if self.part_body is not None:
            p.removeBody(self.part_body, physicsClientId=self._client)
        feeder = self._setup.scene.feeder
        place = np.add(feeder.position_m, (*offset_m, 2e-4))
        turned = feeder.model_copy(
            update={"position_m": tuple(place), "yaw_deg": feeder.yaw_deg + float(np.degrees(yaw_rad))}
        )
        self.part = part
        self.part_body = self._load_part(part, place_pose(turned))
        self._grasps = self._stops = 0

    @property
    def counts(self) -> tuple[int, int]:
        """How often the part was grasped and how often the arm came to a stop."""
        return self._grasps, self._stops

    def add_rotors(self) -> None:
        """Give each link the inertia of its joint's rotor and gear, as a disc about the joint's axis."""
        for joint, rotor in zip(ARM_JOINTS, ROTOR_KG_M2, strict=True):
            inertia = np.array(p.getDynamicsInfo(self.robot, joint, physicsClientId=self._client)[2])
            p.changeDynamics(
                self.robot,
                joint,
                localInertiaDiagonal=(inertia + rotor * _DISC).tolist(),
                jointDamping=0.0,
                linearDamping=0.0,
                angularDamping=0.0,
                physicsClientId=self._client,
            )

    def push_arm(self, torques: NDArray[np.float64]) -> None:
        """Apply torques (7,) Nm for the next step, against dry friction."""
        p.setJointMotorControlArray(
            self.robot, ARM_JOINTS, p.TORQUE_CONTROL, forces=torques.tolist(), physicsClientId=self._client
        )

    def push_hand(self, force_n: NDArray[np.float64]) -> None:
        """Push the hand with a force (3,) N for the next step."""
        here = p.getLinkState(self.robot, HAND_LINK, physicsClientId=self._client)[0]
        p.applyExternalForce(self.robot, HAND_LINK, force_n.tolist(), here, p.WORLD_FRAME, physicsClientId=self._client)

    def release_arm(self) -> None:
        """Leave nothing but dry friction in the joints."""
        p.setJointMotorControlArray(
            self.robot,
            ARM_JOINTS,
            p.VELOCITY_CONTROL,
            targetVelocities=[0.0] * N_JOINTS,
            forces=[COULOMB_NM] * N_JOINTS,
            physicsClientId=self._client,
        )

    def gravity_torques(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the torques (7,) Nm that carry arm and hand."""
        still = [0.0] * (N_JOINTS + len(FINGER_JOINTS))
        torques = p.calculateInverseDynamics(
            self.robot, [*q.tolist(), *self.fingers().tolist()], still, still, physicsClientId=self._client
        )
        return np.array(torques[:N_JOINTS])

    def held_weight(self) -> tuple[NDArray[np.float64], float] | None:
        """Return centre (3,) m and mass, kg, of the part in the hand."""
        pose = self.part_pose()
        if not self.gripped or pose is None or self.part is None:
            return None
        return pose.apply(self._centre_m), self.part.mass_g / 1000

    def outer_forces(self) -> list[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """Return link, point (3,) m and force (3,) N of everything that presses against the arm or what it holds."""
        forces = []
        bodies = [self.robot] + ([self.part_body] if self.gripped and self.part_body is not None else [])
        for body in bodies:
            for contact in p.getContactPoints(bodyA=body, physicsClientId=self._client) or ():
                if contact[2] in (self.robot, self.part_body):
                    continue
                force = contact[9] * np.array(contact[7])
                force += contact[10] * np.array(contact[11]) + contact[12] * np.array(contact[13])
                link = contact[3] if body == self.robot else HAND_LINK
                forces.append((link, np.array(contact[5]), force))
        return forces


class Plant:
    """Steps the arm by a millisecond at a time and knows what the robot's sensors would.

    Attributes
    ----------
    drive : str
        ``hold`` (brakes), ``yield`` (after a reflex), ``torque`` (by `tau_d`), ``impedance`` (after `target`).
    q, dq, ddq : (7,) float64
    tau_d : (7,) float64
        The client's command, without gravity.
    tau_j : (7,) float64
        Torque in the joints, with gravity.
    tau_ext : (7,) float64
        What presses from outside, filtered; less the load that was declared.
    wrench : (6,) float64
        The same at the end effector, in the base's frame.
    """

    def __init__(self, world: ServedWorld, model: Model) -> None:
        self.world = world
        self.model = model
        self.load = Load()
        self.stiffness = np.array([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])
        self.flange_to_ee: NDArray[np.float64] = np.eye(4).T.reshape(16)
        self.drive: _Drive = "hold"
        self.tau_d = np.zeros(N_JOINTS)
        self.tau_ext, self.wrench = np.zeros(N_JOINTS), np.zeros(6)
        self.ddq = np.zeros(N_JOINTS)
        self.world.add_rotors()
        self.q, self.dq = world.joints()
        self.target = Target(self.q.copy(), np.zeros(N_JOINTS))
        self.tau_j = world.gravity_torques(self.q)
        self.hold()

    def hold(self, *, yielding: bool = False) -> None:
        """Stay where the arm is."""
        self.drive = "yield" if yielding else "hold"
        self.tau_d = np.zeros(N_JOINTS)
        self.world.drive_arm(self.q, np.zeros(N_JOINTS))
        self.target = Target(self.q.copy(), np.zeros(N_JOINTS))

    def follow(self, drive: Literal["torque", "impedance"]) -> None:
        """Be driven by the client."""
        self.drive = drive
        self.tau_d = np.zeros(N_JOINTS)
        self.target = Target(self.q.copy(), np.zeros(N_JOINTS))
        self.world.release_arm()

    def step(self) -> None:
        """Let a millisecond pass."""
        gravity = self.world.gravity_torques(self.q)
        if self.drive in ("torque", "impedance"):
            torque = self.tau_d
            if self.drive == "impedance":
                damping = 2 * np.sqrt(self.stiffness * (ROTOR_KG_M2 + 0.1))
                torque = self.stiffness * (self.target.q - self.q) + damping * (self.target.dq - self.dq)
            torque = torque + gravity - self._load_torques()
            self.world.push_arm(torque - _VISCOUS_NMS * self.dq)
        else:
            torque = gravity
            if self.drive == "yield" and np.abs(self.tau_ext).max() > _PRESSING_NM:
                self.target.q = self.q + STEP_S * _YIELD_RAD_S_NM * self.tau_ext
                self.world.drive_arm(self.target.q, np.zeros(N_JOINTS))
        self.tau_j = torque
        before = self.dq
        self.world.step(contact=True)
        self.q, self.dq = self.world.joints()
        self.ddq = (self.dq - before) / STEP_S
        self._feel()

    def _load_torques(self) -> NDArray[np.float64]:
        """Return the torques (7,) by which the declared load pulls."""
        if self.load.mass_kg == 0:
            return np.zeros(N_JOINTS)
        shift = np.eye(4)
        shift[:3, 3] = self.load.centre_m
        weight = np.array([0.0, 0.0, -self.load.mass_kg * GRAVITY_M_S2])
        pulled: NDArray[np.float64] = self.model.jacobian(self.q, shift.T.reshape(16))[:3].T @ weight
        return pulled

    def _feel(self) -> None:
        """Bring the estimate of external torques up to date."""
        pressing = self.world.outer_forces()
        held = self.world.held_weight()
        if held is not None:
            centre, mass = held
            pressing.append((HAND_LINK, centre, np.array([0.0, 0.0, -mass * GRAVITY_M_S2])))
        torques, wrench = -self._load_torques(), np.zeros(6)
        if pressing:
            tool = self.model.end_effector(self.q, self.flange_to_ee)[12:15]
            jacobian = self.model.jacobian(self.q, self.flange_to_ee)
            axes = jacobian[3:].T
            levers = np.array([self.model.frame_origin(self.q, joint) for joint in range(N_JOINTS)])
            for link, point, force in pressing:
                moved = np.arange(N_JOINTS) <= link
                torques = torques + moved * np.einsum("ij,ij->i", axes, np.cross(point - levers, force))
                wrench += np.concatenate([force, np.cross(point - tool, force)])
        share = STEP_S / (_FILTER_S + STEP_S)
        self.tau_ext = self.tau_ext + share * (torques - self.tau_ext)
        self.wrench = self.wrench + share * (wrench - self.wrench)
