"""What lies on a part's surface and is too thin to be geometry."""

from __future__ import annotations

from dataclasses import dataclass

import trimesh


@dataclass(frozen=True)
class Skin:
    """A thin layer on the part's surface, or a strand before it, that changes the light that comes from there.

    Attributes
    ----------
    mesh : trimesh.Trimesh
        Millimetres, in the part's frame. It need not be closed and may be smaller than a pixel: a picture shows it
        by the share of the pixel that it covers. Each triangle is seen from both sides.
    reflectance : float
        Times the part's own reflectance where it covers fully: below 1 darker, above 1 brighter.
    opacity : float
        Share of the light, 0 to 1, that is replaced where it covers.
    defect : bool
        Whether it belongs to the truth; False for dust, haze, weld lines and gate marks.
    grasps : tuple of int, or None
        The grasps, 0 or 1, at which it lies there; None: both. Dust may move between them.
    """

    mesh: trimesh.Trimesh
    reflectance: float
    opacity: float = 1.0
    defect: bool = True
    grasps: tuple[int, ...] | None = None
