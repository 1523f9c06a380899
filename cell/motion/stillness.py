"""How much a picture is blurred by an arm that still moves."""

from __future__ import annotations

import numpy as np

from cell.interfaces import ArmState, Intrinsics
from cell.motion.panda import forward, jacobian
from cell.schema import CameraMount, PartFile


def expected_blur_px(
    state: ArmState, mount: CameraMount, part: PartFile, intrinsics: Intrinsics, exposure_us: float
) -> float:
    """Return how many pixels any point of the shown part moves at most during an exposure.

    Taken from the joints' velocities for a sphere about the point where parts are shown that is as wide as the
    cropped picture, as if all motion were across the optical axis: the real blur is at most this.
    """
    radius = part.picture_width_mm / 2000
    distance = float(np.linalg.norm(np.subtract(mount.look_at_m, mount.position_m)))
    twist = jacobian(state.positions_rad) @ state.velocities_rad_s
    lever = np.array(mount.look_at_m) - forward(state.positions_rad).position_m
    centre = float(np.linalg.norm(twist[:3] + np.cross(twist[3:], lever)))
    speed_m_s = centre + float(np.linalg.norm(twist[3:])) * radius
    return speed_m_s * exposure_us * 1e-6 * max(intrinsics.fx, intrinsics.fy) / (distance - radius)
