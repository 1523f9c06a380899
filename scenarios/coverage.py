"""What the planned views see of a part's surface, where a vote of views sees too little, and which views would do.

``python -m scenarios.coverage --out DIR`` writes ``coverage.json``, ``coverage.png`` and ``coverage.ply``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import trimesh
import typer
from numpy.typing import NDArray

from cell.commands.console import answering, require_writable, write_text
from cell.commands.console import out as screen
from cell.config import load_cell, load_part, load_production
from cell.setup import Order
from scenarios.coverage_picture import colours, draw_coverage
from twin.parts.shape import make_shape
from twin.visibility import PlannedView, planned_views

SUMMARY = "coverage.json"
_SMALLEST_REGION_MM2 = 1.0
_REGIONS = 20
_SHARES = (5, 50, 95)


@dataclass(frozen=True)
class Region:
    """A connected piece of surface that too few views see.

    Attributes
    ----------
    area_mm2 : float
    centre_mm : (3,) tuple of float
        Mean of its surface, in the part's frame.
    normal : (3,) tuple of float
        Mean direction in which it faces, of length 1.
    seen_by : int
        Views that see the best-seen point of it.
    """

    area_mm2: float
    centre_mm: tuple[float, ...]
    normal: tuple[float, ...]
    seen_by: int


@dataclass(frozen=True)
class Coverage:
    """Which faces of a part which views see.

    Attributes
    ----------
    mesh : trimesh.Trimesh
        The part in small faces, millimetres.
    views : tuple of str
        Names of the V pictures.
    seen : (V, F) bool
        Whether a view sees a face.
    px_per_mm : (V, F) float32
        At which scale across the face's slope; 0 where it is not seen.
    angle_deg : (V, F) float32
        Between the face's normal and the direction to the camera.
    """

    mesh: trimesh.Trimesh
    views: tuple[str, ...]
    seen: NDArray[np.bool_]
    px_per_mm: NDArray[np.float32]
    angle_deg: NDArray[np.float32]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many views see each face, (F,)."""
        return np.asarray(self.seen.sum(axis=0))

    def share(self, k: int) -> float:
        """Return the share of the surface that at least `k` views see."""
        return covered_share(self.seen, self.mesh.area_faces, k=k)

    def regions(self, k: int) -> list[Region]:
        """Return the connected pieces of surface that fewer than `k` views see, the largest first."""
        counts, areas = self.counts, self.mesh.area_faces
        few = counts < k
        pairs = self.mesh.face_adjacency
        pieces = trimesh.graph.connected_components(pairs[few[pairs].all(axis=1)], nodes=np.flatnonzero(few))
        found = []
        for piece in pieces:
            area = float(areas[piece].sum())
            if area < _SMALLEST_REGION_MM2:
                continue
            weights = areas[piece] / area
            normal = weights @ self.mesh.face_normals[piece]
            length = float(np.linalg.norm(normal))
            found.append(
                Region(
                    round(area, 2),
                    tuple((weights @ self.mesh.triangles_center[piece]).round(2).tolist()),
                    tuple((normal / length if length > 0 else normal).round(3).tolist()),
                    int(counts[piece].max()),
                )
            )
        return sorted(found, key=lambda region: -region.area_mm2)


def covered_share(seen: NDArray[np.bool_], areas: NDArray[np.float64], *, k: int) -> float:
    """Share of a surface that at least k views see.

    Parameters
    ----------
    seen : (V, F) bool
        Whether a view sees a face.
    areas : (F,) float64
        Of the faces.
    k : int
        Views that must see it, ≥ 1.
    """
    return float(areas[seen.sum(axis=0) >= k].sum() / areas.sum())


def fewest_views(seen: NDArray[np.bool_], areas: NDArray[np.float64], *, k: int) -> list[int]:
    """Choose few views that keep what at least k of all views see.

    Parameters
    ----------
    seen : (V, F) bool
        Whether a view sees a face.
    areas : (F,) float64
        Of the faces.
    k : int
        Views that must see a face, ≥ 1.

    Returns
    -------
    list of int
        Indices of views in the order of their gain. Every face that k of all views see is seen by k of these.

    Notes
    -----
    Greedy set multicover: each step takes the view that sees the most area that is still short of k. At most
    H(n) times as many views as the least possible (Rajagopalan, Vazirani, 1998); the least is not looked for.
    """
    missing = np.where(seen.sum(axis=0) >= k, k, 0)
    left = list(range(len(seen)))
    chosen: list[int] = []
    while missing.any():
        best = max(left, key=lambda view: float(areas[seen[view] & (missing > 0)].sum()))
        chosen.append(best)
        left.remove(best)
        missing = np.maximum(missing - seen[best], 0)
    return chosen


def measure(views: Sequence[PlannedView], mesh: trimesh.Trimesh, *, edge_mm: float, max_angle_deg: float) -> Coverage:
    """Ask every planned view which faces of a part it sees.

    Parameters
    ----------
    views : sequence of PlannedView
        With depth pictures of the part in the hand.
    mesh : trimesh.Trimesh
        The part, millimetres.
    edge_mm : float
        Faces are cut until no edge is longer.
    max_angle_deg : float
        A face that is seen more obliquely counts as not seen.
    """
    fine = mesh.subdivide_to_size(edge_mm, max_iter=20)
    fine.merge_vertices()
    points, normals = fine.triangles_center, fine.face_normals
    looks = (view.look(points, normals) for view in views)
    seen, scale, angle = (np.stack(rows) for rows in zip(*looks, strict=True))
    seen &= angle <= max_angle_deg
    return Coverage(fine, tuple(view.name for view in views), seen, np.where(seen, scale, 0).astype(np.float32), angle)


def summary_of(coverage: Coverage, *, k: int) -> dict[str, Any]:
    """Return what ``coverage.json`` holds."""
    areas, best = coverage.mesh.area_faces, coverage.px_per_mm.max(axis=0)
    seen_at_all = coverage.counts > 0
    regions = coverage.regions(k)
    order = fewest_views(coverage.seen, areas, k=k)
    return {
        "views": len(coverage.views),
        "k": k,
        "surface_mm2": float(areas.sum()),
        "share_seen_by_1": coverage.share(1),
        "share_seen_by_k": coverage.share(k),
        "share_seen_by": {str(n): coverage.share(n) for n in range(1, len(coverage.views) + 1)},
        "best_px_per_mm_percentiles": _percentiles(best[seen_at_all], areas[seen_at_all]),
        "best_angle_deg_percentiles": _percentiles(
            np.where(coverage.seen, coverage.angle_deg, np.inf).min(axis=0)[seen_at_all], areas[seen_at_all]
        ),
        "of_each_view": [
            {
                "view": name,
                "share": float(areas[row].sum() / areas.sum()),
                "median_px_per_mm": _percentiles(scale[row], areas[row]).get("50"),
                "median_angle_deg": _percentiles(angle[row], areas[row]).get("50"),
            }
            for name, row, scale, angle in zip(
                coverage.views, coverage.seen, coverage.px_per_mm, coverage.angle_deg, strict=True
            )
        ],
        "seen_by_fewer_than_k": {
            "area_mm2": float(areas[coverage.counts < k].sum()),
            "regions": [vars(region) for region in regions[:_REGIONS]],
            "regions_not_listed": max(0, len(regions) - _REGIONS),
        },
        "fewest_views": [
            {"view": coverage.views[view], "share_seen_by_k": covered_share(coverage.seen[order[: n + 1]], areas, k=k)}
            for n, view in enumerate(order)
        ],
    }


def _percentiles(values: NDArray[np.floating], weights: NDArray[np.float64]) -> dict[str, float]:
    """Percentiles of a quantity over the surface, by area; none of nothing."""
    if values.size == 0:
        return {}
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return {str(share): float(values[order][np.searchsorted(reached, share / 100)]) for share in _SHARES}


def _main(
    out: Annotated[Path, typer.Option(help="folder for the results")],
    cell: Annotated[str, typer.Option(help="name or path of a cell file of the twin")] = "twin",
    part: Annotated[str, typer.Option(help="name or path of a part file")] = "ring",
    k: Annotated[int, typer.Option(min=1, help="views that must see a defect, as in the published vote")] = 2,
    max_angle: Annotated[float, typer.Option(min=1, max=90, help="degrees; seen more obliquely is not seen")] = 75.0,
    edge_mm: Annotated[float, typer.Option(min=0.2, max=20, help="largest edge of the faces that are asked for")] = 1.5,
) -> None:
    """Tell what share of a part's surface the planned views see."""
    with answering():
        require_writable(out, holds=SUMMARY)
        order = Order(load_cell(cell), load_part(part), load_production("good"), [0])
        shape = make_shape(order.part)
        coverage = measure(planned_views(order, shape), shape.mesh, edge_mm=edge_mm, max_angle_deg=max_angle)
        summary = {
            "command": {"cell": cell, "part": part, "k": k, "max_angle_deg": max_angle, "edge_mm": edge_mm},
            **summary_of(coverage, k=k),
        }
        out.mkdir(parents=True, exist_ok=True)
        draw_coverage(coverage, summary, out / "coverage.png", k=k)
        _coloured(coverage).export(out / "coverage.ply")
        write_text(out / SUMMARY, json.dumps(summary, indent=1) + "\n")
    _tell(summary, out)


def _coloured(coverage: Coverage) -> trimesh.Trimesh:
    mesh = coverage.mesh.copy()
    mesh.visual.face_colors = (255 * colours(coverage.counts)).astype(np.uint8)
    return mesh


def _tell(summary: dict[str, Any], out: Path) -> None:
    k, fewer = summary["k"], summary["seen_by_fewer_than_k"]
    screen.print(
        f"{summary['share_seen_by_1']:.1%} of {summary['surface_mm2']:.0f} mm² are seen by a view, "
        f"{summary['share_seen_by_k']:.1%} by at least {k} of {summary['views']}"
    )
    screen.print(f"seen by fewer than {k}: {fewer['area_mm2']:.0f} mm²; the largest places:")
    for region in fewer["regions"][:5]:
        screen.print(
            f"  {region['area_mm2']:.0f} mm² about {_vector(region['centre_mm'])} mm, facing "
            f"{_vector(region['normal'])}, seen by at most {region['seen_by']}"
        )
    names = [step["view"] for step in summary["fewest_views"]]
    screen.print(f"as much is seen by {k} of these {len(names)} views: {', '.join(names)}")
    screen.print(f"{out / SUMMARY}, coverage.png, coverage.ply")


def _vector(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in values) + ")"


if __name__ == "__main__":
    typer.run(_main)
