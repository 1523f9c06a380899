"""The picture of a part's coverage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scenarios.coverage import Coverage

matplotlib.use("Agg")

_MOST = 8  # views; more than these look the same
_ANGLES = ((35, -60, "from above"), (-35, -60, "from below"))


def colours(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return RGBA (N, 4) in 0…1 for how many views see something: red for none, to blue for 8 and more."""
    return np.asarray(plt.get_cmap("RdYlBu")(np.clip(counts / _MOST, 0, 1)))


def draw_coverage(coverage: Coverage, summary: dict[str, Any], path: Path, *, k: int) -> None:
    """Draw the part coloured by how many views see it, how much each number sees, and the fewest views."""
    figure = plt.figure(figsize=(12, 9), layout="constrained")
    face = colours(coverage.counts)
    triangles = coverage.mesh.triangles
    middle, reach = triangles.reshape(-1, 3).mean(axis=0), np.ptp(triangles.reshape(-1, 3), axis=0).max() / 2
    for place, (elevation, azimuth, title) in enumerate(_ANGLES):
        axes = figure.add_subplot(2, 2, place + 1, projection="3d")
        axes.add_collection3d(Poly3DCollection(triangles, facecolors=face, edgecolors=face, linewidths=0.1))
        for limits, centre in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True):
            limits(centre - reach, centre + reach)
        axes.set_box_aspect((1, 1, 1))
        axes.view_init(elevation, azimuth)
        axes.set(title=title)
        axes.set_axis_off()
    shares = summary["share_seen_by"]
    axes = figure.add_subplot(2, 2, 3)
    axes.bar([int(n) for n in shares], [100 * share for share in shares.values()], color=colours(np.arange(1, 17)))
    axes.set(xlabel="seen by at least so many views", ylabel="share of the surface, %", ylim=(0, 100))
    axes = figure.add_subplot(2, 2, 4)
    steps = summary["fewest_views"]
    axes.plot(range(1, len(steps) + 1), [100 * step["share_seen_by_k"] for step in steps], "o-")
    axes.axhline(100 * coverage.share(k), color="grey", linestyle=":", label="all views")
    axes.set_xticks(range(1, len(steps) + 1), [step["view"] for step in steps], rotation=60)
    axes.set(xlabel="with this view added", ylabel=f"seen by at least {k} views, %", ylim=(0, 100))
    axes.legend()
    figure.suptitle("Surface by how many views see it: red none, yellow 4, blue 8 and more (in simulation)")
    figure.savefig(path, dpi=110)
    plt.close(figure)
