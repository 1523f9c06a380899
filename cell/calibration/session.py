"""The board through the cell, and what its pictures say about camera and arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.calibration.board import CharucoPattern, find_corners
from cell.calibration.solve import Shot, Solution, held_out_errors_px, solve
from cell.config import check
from cell.cycle import Cycle
from cell.interfaces import CellError, ConfigError, Frame, Pose
from cell.motion.geometry import differences
from cell.motion.round import camera_pose, grasp_pose
from cell.schema import CameraMount, CellFile, PartFile
from cell.setup import Order, open_cell
from cell.start import Clear, Confirm

_DIGITS = 7
_SIDE_PX = 1024


@dataclass(frozen=True)
class Calibration:
    """What was found, and how well pictures are predicted that it was not found from.

    Attributes
    ----------
    found : Solution
        From all pictures.
    mount : CameraMount
        Where the camera stands, as a cell file says it.
    shots : tuple of Shot
    before_px, nominal_px, after_px : (N,) float64
        Distances of all corners from where they were expected, in pixels of a crop of the part at 1024²: by the cell
        file as it was; by a camera calibrated with the nominal arm, and by camera and arm calibrated together, each
        picture predicted from others.
    """

    found: Solution
    mount: CameraMount
    shots: tuple[Shot, ...]
    before_px: NDArray[np.float64]
    nominal_px: NDArray[np.float64]
    after_px: NDArray[np.float64]

    def values(self) -> dict[tuple[str | int, ...], Any]:
        """Return what belongs into the cell file, by the keys that lead to it."""
        intrinsics = {name: _rounded(value) for name, value in asdict(self.found.intrinsics).items()}
        mount = {name: [_rounded(v) for v in value] for name, value in self.mount.model_dump().items()}
        a_m, d_m, alpha, theta, sine, cosine = self.found.off.T
        geometry = {
            "a_mm": a_m * 1000,
            "d_mm": d_m * 1000,
            "alpha_rad": alpha,
            "theta_rad": theta,
            "encoder_sin_rad": sine,
            "encoder_cos_rad": cosine,
        }
        return {
            ("camera", "intrinsics"): intrinsics,
            ("scene", "camera"): mount,
            ("arm_geometry",): {name: [_rounded(v) for v in value] for name, value in geometry.items()},
        }


def pattern_of(part: PartFile) -> CharucoPattern:
    """Return what is printed on a board. Raises `ConfigError` where the part is none."""
    said = part.shape.options.get("pattern")
    if said is None:
        raise ConfigError(f"part {part.name} is no calibration board: its shape has no pattern; see assets/parts/board")
    return check(said, CharucoPattern, f"part {part.name}: shape.pattern")


def calibrate(
    order: Order, part: PartFile, *, clear: Clear, confirm: Confirm, progress: Callable[[int], None]
) -> Calibration:
    """Show the board from all its views and find camera, mounting and arm.

    Parameters
    ----------
    order : Order
        Its part is the board. The arm is taken as nominal, whatever the cell file says of its geometry.
    part : PartFile
        For whose crop the errors are given.
    clear, confirm : callable
        See `cell.cycle.Cycle.prepare`.
    progress : callable
        Called with the number of pictures taken.

    Raises
    ------
    CellError
        The cell stopped, or the board was not seen well enough.
    """
    file, board = order.cell.content, order.part.content
    pattern = pattern_of(board)
    bare = replace(order, cell=replace(order.cell, content=file.model_copy(update={"arm_geometry": None})))
    shots: list[Shot] = []
    taken = 0
    with open_cell(bare) as cell:

        def look(view: str, frame: Frame, mask: NDArray[np.bool_] | None) -> None:
            nonlocal taken
            taken += 1
            corners = find_corners(frame.image, pattern)
            if corners is not None:
                grasp = board.view_names.index(view) // len(board.views)
                shots.append(Shot(view, grasp, cell.arm.state().positions_rad, corners))
            progress(taken)

        intrinsics = cell.camera.intrinsics
        cycle = Cycle(cell)
        cycle.prepare(clear=clear, confirm=confirm)
        passage, _, _ = cycle.run(cell.source.next(), on_frame=look, choose_bin=lambda _: "recheck")
    if passage.faults:
        raise CellError(f"The board was not shown from all views: {'; '.join(passage.faults)}")
    size = intrinsics.width, intrinsics.height
    found = solve(shots, *size, arm=True)
    scale = _crop_scale(found, part, file)
    held_out = [np.concatenate(held_out_errors_px(shots, *size, arm=arm)) * scale for arm in (False, True)]
    geometry = file.arm_geometry
    off = np.zeros((7, 6)) if geometry is None else differences(geometry)
    boards = tuple(grasp_pose(grasp).inverse() @ _pattern_pose(pattern) for grasp in board.grasps)
    before = Solution(intrinsics, camera_pose(file.scene.camera), boards, off)
    before_px = np.concatenate([before.errors_px(shot) for shot in shots]) * scale
    return Calibration(found, _mount(found.camera, file.scene.camera), tuple(shots), before_px, *held_out)


def _pattern_pose(pattern: CharucoPattern) -> Pose:
    """Return where the pattern's frame, which begins at its corner, is in the part's."""
    return Pose(np.eye(3), np.array([-pattern.columns, -pattern.rows, 0]) * pattern.square_mm / 2000)


def _crop_scale(found: Solution, part: PartFile, file: CellFile) -> float:
    """Return how many pixels of the part's crop at 1024² a pixel of the picture is."""
    distance = float(np.linalg.norm(np.subtract(file.scene.camera.look_at_m, file.scene.camera.position_m)))
    return _SIDE_PX / (part.picture_width_mm / 1000 * found.intrinsics.fx / distance)


def _mount(camera: Pose, before: CameraMount) -> CameraMount:
    """Return a pose as a cell file says it: parts go on being shown on the optical axis, as near to where they were."""
    axis = camera.rotation[:, 2]
    distance = float((np.array(before.look_at_m) - camera.position_m) @ axis)
    return CameraMount(
        position_m=tuple(camera.position_m.tolist()),
        look_at_m=tuple((camera.position_m + distance * axis).tolist()),
        up=tuple((-camera.rotation[:, 1]).tolist()),
    )


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(float(value), _DIGITS)
