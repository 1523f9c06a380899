"""The real drivers of arm and hand, connected to the twin over the robot's wire protocol."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from pydantic import Field

from cell.config import check
from cell.drivers.panda import PandaArm, PandaArmConfig, PandaGripper, PandaGripperConfig
from cell.interfaces import ArmState, ConfigError, Grasp, JointTrajectory
from cell.schema import FileModel
from cell.setup import Setup
from twin.wire.process import WiredWorld

# Until somebody has been there, the arm has come to rest.
_LOOKING_S = 1.0


class EmulatedPandaConfig(FileModel):
    """How the driver shall be set, but for the robot's address, which the world says."""

    driver: dict[str, Any] = Field(default_factory=dict)


class EmulatedArm:
    """The unmodified driver, moving the twin's arm; see `cell.interfaces.Arm`."""

    Config = EmulatedPandaConfig

    def __init__(self, config: EmulatedPandaConfig, setup: Setup) -> None:
        self._world = _wired(setup)
        # An ordinary kernel serves here.
        said = {"host": self._world.host, "realtime": "ignore"} | config.driver
        where = f"{setup.order.cell.path}: arm.driver"
        self._driver = PandaArm(check(said, PandaArmConfig, where), setup)

    def __enter__(self) -> Self:
        self._driver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._driver.__exit__(kind, error, trace)

    def state(self) -> ArmState:
        """Return the present state."""
        return self._driver.state()

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Move along a trajectory."""
        return self._driver.follow(trajectory)

    def stop(self) -> None:
        """Stop."""
        self._driver.stop()

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear a fault after a person acknowledged it, who also takes the part out and lets go of the stop button."""
        if acknowledged_by:
            self._world.provoke("stop released")
            self._world.take_out()
            self._world.wait(_LOOKING_S)
        self._driver.recover(acknowledged_by=acknowledged_by)

    def provoke(self, kind: str) -> bool:
        """Let something happen to the robot in its next motion; False where this fault is not known here.

        Parameters
        ----------
        kind : str
            ``reflex``, ``connection lost`` or ``stop pressed``.
        """
        return _provoked(self._world, kind, ("reflex", "connection lost", "stop pressed"))


class EmulatedHand:
    """The unmodified driver, moving the twin's fingers; see `cell.interfaces.Gripper`."""

    Config = EmulatedPandaConfig

    def __init__(self, config: EmulatedPandaConfig, setup: Setup) -> None:
        self._world = _wired(setup)
        where = f"{setup.order.cell.path}: gripper.driver"
        self._driver = PandaGripper(check({"host": self._world.host} | config.driver, PandaGripperConfig, where), setup)

    def __enter__(self) -> Self:
        self._driver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._driver.__exit__(kind, error, trace)

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        """Close on something."""
        return self._driver.grasp(width_m, force_n)

    def release(self) -> None:
        """Open the fingers."""
        self._driver.release()

    def state(self) -> Grasp:
        """Return what is held now."""
        return self._driver.state()

    def provoke(self, kind: str) -> bool:
        """Let the grasp fail; False where this fault is not known here.

        Parameters
        ----------
        kind : str
            ``missed`` (no part is there) or ``part lost`` (it slips out).
        """
        return _provoked(self._world, kind, ("missed", "part lost"))


def _wired(setup: Setup) -> WiredWorld:
    if not isinstance(setup.world, WiredWorld):
        raise ConfigError(
            f"{setup.order.cell.path}: world: must be twin.wire.process:WiredWorld, whose robot the drivers talk to"
        )
    return setup.world


def _provoked(world: WiredWorld, kind: str, known: tuple[str, ...]) -> bool:
    if kind not in known:
        return False
    world.provoke(kind)
    return True
