"""The simulated world that the twin's devices share: physics, time, and the one part that is in the cell."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pybullet as p
import pybullet_data
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from cell.config import Loaded, load_class
from cell.interfaces import N_JOINTS, ConfigError, Device, Pose
from cell.motion.collision import hulls_as_obj
from cell.motion.panda import forward
from cell.motion.round import place_pose
from cell.schema import CellFile, FileModel
from cell.setup import Setup
from twin.conditions import N_GRASPS
from twin.device import InWorld, LoadCell, world_of
from twin.snapshot import PartBody, Snapshot

GRAVITY_M_S2 = 9.80665
ARM_JOINTS = tuple(range(N_JOINTS))
HAND_LINK = 8
FINGER_JOINTS = (9, 10)
_OPEN_M = 0.04
_ARM_FORCE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
_MARGIN_M = 1e-4
_FRICTION = 0.8
_PAD_FRICTION = 1.0
# A part that slipped so far between the pads, which are twice as wide, is out of them.
_PAD_M = 0.009


def panda_urdf() -> Path:
    """Path of the Panda's description that ships with PyBullet."""
    return Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"


def quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return (x, y, z, w) of a rotation matrix."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return float(x), float(y), float(z), float(w)


class ArmServo(Protocol):
    """How the arm's joints come after what they are told; without one they do it exactly."""

    def restart(self, joints: NDArray[np.float64]) -> None:
        """Stand still at `joints` (7,) rad."""
        ...

    def advance(
        self, joints: NDArray[np.float64], rates: NDArray[np.float64], step_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions and velocities a step later, when told to be at `joints` with `rates` (7,) then."""
        ...


class WorldConfig(FileModel):
    """How the world is simulated."""

    step_s: float = Field(1 / 240, gt=0, le=0.01, description="while the arm moves and things rest")
    contact_step_s: float = Field(0.001, gt=0, le=0.01, description="while the fingers move")
    pan_m: float = Field(0.13, gt=0, le=0.5, description="edge of the scale's square pan")


def world_config(cell: Loaded[CellFile]) -> WorldConfig:
    """Return how a cell's world is simulated, wherever that is. Raises `ConfigError` where it is none of the twin's."""
    entry, where = cell.content.world, f"{cell.path}: world"
    config = None if entry is None else load_class(entry, where, like=Device)[1]
    if not isinstance(config, WorldConfig):
        raise ConfigError(f"{where}: must be one of the twin's")
    return config


class World:
    """A PyBullet world with the Panda, the cell's boxes, the scale's pan and at most one part."""

    Config = WorldConfig

    def __init__(self, config: WorldConfig, setup: Setup) -> None:
        self.step_s = config.step_s
        self.contact_step_s = config.contact_step_s
        self.pan_m = config.pan_m
        self._setup = setup
        self._client = -1
        self._time_s = 0.0
        self.part: PartBody | None = None
        self.servo: ArmServo | None = None
        self._grip: int | None = None
        self._contact = False
        self._load_cell: LoadCell | None = None

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        self._joints = np.array(self._setup.order.cell.content.motion.home_rad)
        self._fingers = np.full(2, _OPEN_M)
        self._build()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._client)

    @property
    def time_s(self) -> float:
        """Simulated seconds, and the computing that the cell waited for."""
        return self._time_s

    def add_computing(self, wall_s: float) -> None:
        """Lay computing time on the world's line: nothing moves meanwhile."""
        self._time_s += wall_s

    def _build(self) -> None:
        client = self._client
        p.resetSimulation(physicsClientId=client)
        p.setGravity(0, 0, -GRAVITY_M_S2, physicsClientId=client)
        p.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=client)
        self.robot = p.loadURDF(
            str(panda_urdf()), useFixedBase=True, flags=p.URDF_IGNORE_VISUAL_SHAPES, physicsClientId=client
        )
        for link in FINGER_JOINTS:
            p.changeDynamics(
                self.robot, link, lateralFriction=_PAD_FRICTION, collisionMargin=_MARGIN_M, physicsClientId=client
            )
        self.boxes = {self._solid_box(box.size_m, box.position_m): box.name for box in self._setup.scene.boxes}
        x, y, z = self._setup.scene.scale.position_m
        self.pan = self._solid_box((self.pan_m, self.pan_m, 0.01), (x, y, z - 0.005))
        self.part_body: int | None = None
        self.part = None
        self._grip = None
        self._grasps = self._stops = 0
        for joint, angle in zip(ARM_JOINTS, self._joints, strict=True):
            p.resetJointState(self.robot, joint, angle, physicsClientId=client)
        for joint, opening in zip(FINGER_JOINTS, self._fingers, strict=True):
            p.resetJointState(self.robot, joint, opening, physicsClientId=client)
        if self.servo is not None:
            self.servo.restart(self._joints)
        self.drive_arm(self._joints, np.zeros(N_JOINTS))
        self.drive_fingers(self._fingers, force_n=20.0)

    def _solid_box(self, size_m: Iterable[float], position_m: Iterable[float]) -> int:
        shape = p.createCollisionShape(
            p.GEOM_BOX, halfExtents=[edge / 2 for edge in size_m], physicsClientId=self._client
        )
        body: int = p.createMultiBody(0, shape, -1, list(position_m), physicsClientId=self._client)
        return body

    def present(self, part: PartBody, offset_m: NDArray[np.float64], yaw_rad: float) -> None:
        """Take the last part away, set the arm where it was told to be, and lay a new part at the feeder.

        The physics starts anew for each part, so that what happens to it depends on nothing before.
        """
        self._build()
        feeder = self._setup.scene.feeder
        pose = place_pose(
            feeder.model_copy(
                update={
                    "position_m": tuple(np.add(feeder.position_m, (*offset_m, 2 * _MARGIN_M))),
                    "yaw_deg": feeder.yaw_deg + np.degrees(yaw_rad),
                }
            )
        )
        self.part = part
        self.part_body = self._load_part(part, pose)

    def take_out(self) -> None:
        """Take the part away, wherever it is; the fingers stay where they are."""
        self.let_go()
        if self.part_body is not None:
            p.removeBody(self.part_body, physicsClientId=self._client)
        self.part, self.part_body = None, None

    def _load_part(self, part: PartBody, pose: Pose) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hulls.obj"
            path.write_text(hulls_as_obj(part.hulls), encoding="ascii")
            shape = p.createCollisionShape(
                p.GEOM_MESH, fileName=str(path), meshScale=[0.001] * 3, physicsClientId=self._client
            )
        centre = np.asarray(part.mesh.center_mass) / 1000
        inertia = np.diag(part.mesh.moment_inertia) / part.mesh.volume * (part.mass_g / 1000) * 1e-6
        body: int = p.createMultiBody(
            part.mass_g / 1000,
            shape,
            -1,
            pose.apply(centre).tolist(),
            quaternion(pose.rotation),
            baseInertialFramePosition=centre.tolist(),
            physicsClientId=self._client,
        )
        p.changeDynamics(
            body,
            -1,
            localInertiaDiagonal=inertia.tolist(),
            lateralFriction=_FRICTION,
            collisionMargin=_MARGIN_M,
            physicsClientId=self._client,
        )
        self._centre_m = centre
        return body

    def part_pose(self) -> Pose | None:
        """Return where the part's frame is, or None without a part."""
        if self.part_body is None:
            return None
        position, turn = p.getBasePositionAndOrientation(self.part_body, physicsClientId=self._client)
        rotation = np.array(p.getMatrixFromQuaternion(turn)).reshape(3, 3)
        return Pose(rotation, np.array(position) - rotation @ self._centre_m)

    def step(self, *, contact: bool = False) -> None:
        """Let one step of time pass, a short one while the fingers are in contact."""
        step_s = self.contact_step_s if contact else self.step_s
        if self.servo is not None:
            self._set_motors(*self.servo.advance(self._joints, self._rates, step_s))
        p.setTimeStep(step_s, physicsClientId=self._client)
        if self._grip is not None and contact != self._contact:
            self._limit_grip()
        self._contact = contact
        p.stepSimulation(physicsClientId=self._client)
        self._time_s += step_s
        if self._grip is not None and np.linalg.norm(self._part_in_hand_m() - self._held_at_m) > _PAD_M:
            self.let_go()
        if self._load_cell is not None:
            self._load_cell.follow(self, step_s)

    def mount(self, load_cell: LoadCell) -> None:
        """Put a scale under the pan; from now on it follows every step."""
        self._load_cell = load_cell

    def reading_g(self) -> float:
        """Return what the scale shows, grams; without one, nothing."""
        return 0.0 if self._load_cell is None else self._load_cell.reading_g()

    def wait(self, seconds: float) -> None:
        """Let about so much time pass."""
        for _ in range(round(seconds / self.step_s)):
            self.step()

    def drive_arm(self, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        """Set what the joint controllers aim at."""
        self._joints, self._rates = np.array(positions), np.array(velocities)
        self._set_motors(positions, velocities)

    def _set_motors(self, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        p.setJointMotorControlArray(
            self.robot,
            ARM_JOINTS,
            p.POSITION_CONTROL,
            targetPositions=positions.tolist(),
            targetVelocities=velocities.tolist(),
            forces=_ARM_FORCE,
            positionGains=[0.5] * N_JOINTS,
            velocityGains=[1.0] * N_JOINTS,
            physicsClientId=self._client,
        )

    def drive_fingers(self, openings_m: NDArray[np.float64], *, force_n: float, speed_m_s: float = 0.05) -> None:
        """Set what the fingers aim at, each with half of the hand's opening, pushing with up to `force_n`."""
        self._fingers = np.array(openings_m)
        for joint, opening in zip(FINGER_JOINTS, openings_m, strict=True):
            p.setJointMotorControl2(
                self.robot,
                joint,
                p.POSITION_CONTROL,
                targetPosition=opening,
                force=force_n,
                maxVelocity=speed_m_s,
                physicsClientId=self._client,
            )

    def joints(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return positions (7,) rad and velocities (7,) rad/s of the arm."""
        states = p.getJointStates(self.robot, ARM_JOINTS, physicsClientId=self._client)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def arm_inertia(self) -> NDArray[np.float64]:
        """Return the inertia (7,) kg m² that each joint of the arm moves where it stands, its links alone."""
        states = p.getJointStates(self.robot, (*ARM_JOINTS, *FINGER_JOINTS), physicsClientId=self._client)
        mass = p.calculateMassMatrix(self.robot, [state[0] for state in states], physicsClientId=self._client)
        return np.diag(np.array(mass))[:N_JOINTS].copy()

    def fingers(self) -> NDArray[np.float64]:
        """Return the position (2,) of each finger, metres from closed."""
        return np.array([s[0] for s in p.getJointStates(self.robot, FINGER_JOINTS, physicsClientId=self._client)])

    def finger_contacts(self) -> tuple[bool, bool]:
        """Return whether each finger touches the part."""
        if self.part_body is None:
            return False, False
        left, right = (
            bool(p.getContactPoints(self.robot, self.part_body, link, physicsClientId=self._client))
            for link in FINGER_JOINTS
        )
        return left, right

    @property
    def gripped(self) -> bool:
        """Whether the hand holds the part."""
        return self._grip is not None

    def grip(self, force_n: float) -> None:
        """Hold the part where the fingers touch it now, by what friction of both pads allows at this force.

        A constraint stands for the contact, whose own points would jitter. What pulls harder than Coulomb's friction,
        by PyBullet's product of both coefficients, makes the part slip, and beyond the pads it is lost. PyBullet limits
        each axis apart: a pull between them must be up to √3 times as hard.
        """
        hand = p.getLinkState(self.robot, HAND_LINK, physicsClientId=self._client)
        part = p.getBasePositionAndOrientation(self.part_body, physicsClientId=self._client)
        position, turn = p.multiplyTransforms(*p.invertTransform(hand[0], hand[1]), *part)
        self._grasps += 1
        self._grip = p.createConstraint(
            self.robot,
            HAND_LINK,
            self.part_body,
            -1,
            p.JOINT_FIXED,
            (0, 0, 0),
            position,
            (0, 0, 0),
            turn,
            physicsClientId=self._client,
        )
        self.press(force_n)
        self._held_at_m = self._part_in_hand_m()
        self._let_fingers_touch(False)

    def press(self, force_n: float) -> None:
        """Press with another force on the part that is held."""
        self._friction_n = 2 * _FRICTION * _PAD_FRICTION * force_n
        self._limit_grip()

    def _limit_grip(self) -> None:
        """Let the constraint push as hard as friction; PyBullet keeps it as an impulse of one step as long as now."""
        p.changeConstraint(self._grip, maxForce=self._friction_n, physicsClientId=self._client)

    def _part_in_hand_m(self) -> NDArray[np.float64]:
        """Return where (3,) the part's centre is in the hand's frame."""
        hand = p.getLinkState(self.robot, HAND_LINK, physicsClientId=self._client)
        part = p.getBasePositionAndOrientation(self.part_body, physicsClientId=self._client)
        return np.array(p.multiplyTransforms(*p.invertTransform(hand[0], hand[1]), *part)[0])

    def let_go(self) -> None:
        """Give the part back to gravity and friction."""
        if self._grip is not None:
            p.removeConstraint(self._grip, physicsClientId=self._client)
            self._grip = None
            self._let_fingers_touch(True)

    def _let_fingers_touch(self, touch: bool) -> None:
        for link in FINGER_JOINTS:
            p.setCollisionFilterPair(self.robot, self.part_body, link, -1, int(touch), physicsClientId=self._client)

    def pan_force_n(self) -> float:
        """Return the vertical force on the scale's pan, newtons."""
        contacts: list[Any] = p.getContactPoints(bodyA=self.pan, physicsClientId=self._client) or []
        # The normal points from the other body to the pan; what pushes the pan down counts.
        return -float(sum(contact[9] * contact[7][2] for contact in contacts))

    def collision(self, force_n: float) -> str | None:
        """Return what the arm, or the part in its hand, pushes harder than `force_n`, or None."""
        bodies = [self.robot] + ([self.part_body] if self.gripped else [])
        for body in bodies:
            for contact in p.getContactPoints(bodyA=body, physicsClientId=self._client) or ():
                other = contact[2]
                if contact[9] > force_n and other not in (self.robot, self.part_body):
                    return self.boxes.get(other, "scale")
        return None

    def arrived(self) -> None:
        """Note that the arm has come to a stop: it stands a little off in another way than before."""
        self._stops += 1

    def snapshot(self) -> Snapshot:
        """Freeze what a picture depends on: the true joints, not the reported ones, and the part as it has slipped."""
        reported, part, pose = self.joints()[0], self.part, self.part_pose()
        if part is None or pose is None:
            return Snapshot(reported, self.fingers(), part, pose)
        grasp = min(max(self._grasps - 1, 0), N_GRASPS - 1)
        true = part.conditions.true_joints(reported, part.seed, self._stops)
        if self.gripped:
            pose = forward(true) @ part.conditions.slip(grasp) @ forward(reported).inverse() @ pose
        return Snapshot(true, self.fingers(), part, pose, grasp)


class TwinClockConfig(FileModel):
    """A simulated clock has nothing to set."""


class TwinClock(InWorld):
    """The world's time; see `cell.interfaces.Clock`."""

    Config = TwinClockConfig

    def __init__(self, config: TwinClockConfig, setup: Setup) -> None:
        self._world = world_of(setup)

    def now(self) -> float:
        """Return simulated seconds."""
        return self._world.time_s

    def sleep(self, seconds: float) -> None:
        """Simulate so many seconds."""
        self._world.wait(seconds)

    def computed(self, wall_s: float) -> None:
        """Lay computing on the line."""
        self._world.add_computing(wall_s)
