"""Contact sheets of the twin: every kind of defect by size, every level of nuisances, and every view of each part.

``python -m scenarios.gallery --out DIR`` writes ``PART-views.png``, ``PART-defects.png`` and ``PART-nuisances.png``;
with ``--renderers`` it writes ``PART-renderers.png`` alone, one view of one part by each renderer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell.commands.console import answering, progress, require_writable
from cell.commands.console import out as screen
from cell.config import check, load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.schema import Batch, Defect, ProductionFile
from cell.setup import Order, Setup
from twin.camera import TwinCameraConfig, picture
from twin.parts.shape import make_shape
from twin.rendering.geometry import Renderer
from twin.rendering.pinhole import Pinhole
from twin.snapshot import PartBody, Snapshot
from twin.source import TwinPartSource, TwinPartSourceConfig
from twin.visibility import PlannedView, planned_views
from twin.world import World, WorldConfig, world_config

matplotlib.use("Agg")

SIZES_MM: dict[str, tuple[float, ...]] = {
    "dot": (0.2, 0.5, 1.0, 2.5),
    "scratch": (1.0, 3.0, 6.0, 12.0),
    "crack": (1.0, 3.0, 6.0, 10.0),
    "missing": (0.5, 1.0, 2.0, 4.0),
    "missing_structure": (50.0, 50.0, 50.0, 50.0),
    "short_shot": (0.5, 1.0, 2.0, 4.0),
    "flash": (0.3, 0.6, 1.0, 2.0),
    "deformation": (0.2, 0.5, 1.0, 2.0),
}
"""What is shown of each kind of defect; of a missing structure the largest: any of the part's, four times."""

LEVELS = (0, 1, 2, 3)
RENDERERS = {"tiny": "TinyRenderer", "egl": "OpenGL on EGL", "photoreal": "Mitsuba: clear, dark field"}
_RENDERED_DEFECTS = (("scratch", 8.0), ("dot", 1.5), ("missing", 3.0))
_DETAIL_MM = 14.0
_LEVEL_DETAIL_MM = 20.0
_PLAIN = 0.2  # share of the light that dust takes or adds, and marks of the mould do not
_SHOWN = 0.7  # share of it that a view sees
_WIDTH, _HEIGHT = 2736, 1824  # a quarter of the sensor's pixels, so that a detail is worth looking at


@dataclass(frozen=True, eq=False)
class Studio:
    """A part file's parts before the camera, each placed as planned, without a robot that moves.

    Attributes
    ----------
    order : Order
        Cell and part; its production is replaced by what is asked for.
    camera : TwinCameraConfig
    renderer : Renderer
        Connected.
    views : tuple of PlannedView
        Of a good part.
    """

    order: Order
    camera: TwinCameraConfig
    renderer: Renderer
    views: tuple[PlannedView, ...]

    def make(self, *, nuisances: int, defects: Sequence[Defect] = (), seed: int) -> PartBody:
        """Make a part as the twin's feeder does. Raises `ConfigError` when no place for a defect is found."""
        batch = Batch(count=1, defects=tuple(defects))
        production = ProductionFile.model_validate({"lot": "gallery", "nuisances": nuisances, "batches": (batch,)})
        order = replace(self.order, production=replace(self.order.production, content=production), seed=seed)
        with World(WorldConfig(), Setup(order, None)) as world:
            with TwinPartSource(TwinPartSourceConfig(), Setup(order, world)) as source:
                source.next()
            assert world.part is not None
            return world.part

    def show(self, part: PartBody, view: PlannedView) -> NDArray[np.uint8]:
        """Take a picture (H, W, 3) of a part in a view."""
        index, stop = view.grasp, view.joints_rad
        fingers = np.full(2, self.order.part.content.grasps[index].width_mm / 2000)
        scene = self.order.cell.content.scene
        snapshot = Snapshot(stop, fingers, part, view.pose, index)
        rng = np.random.default_rng(part.seed)
        image, _ = picture(self.camera, self.renderer, scene, snapshot, self._pinhole, rng)
        return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)

    def detail(self, part: PartBody, at_mm: NDArray[np.float64], *, width_mm: float) -> tuple[str, NDArray[np.uint8]]:
        """Return the view that shows points (N, 3) of a part's surface best, and a square about their middle in it."""
        best = max(self.views, key=lambda view: (round(view.share(at_mm), 2), -view.depth_of(at_mm)))
        image = self.show(part, best)
        (centre,), (depth,) = self._pinhole.project(best.pose.apply(at_mm.mean(axis=0, keepdims=True) / 1000))
        half = max(8, round(width_mm / 2000 * self._pinhole.intrinsics.fx / depth))
        x, y = (int(np.clip(c, half, size - half)) for c, size in zip(centre, image.shape[1::-1], strict=True))
        return best.name, image[y - half : y + half, x - half : x + half]

    @property
    def _pinhole(self) -> Pinhole:
        return self.camera.pinhole(self.order.cell.content.scene.camera)


@contextmanager
def studio_of(cell: str, part: str, **changed: object) -> Iterator[Studio]:
    """Open the studio of a cell and a part, by their names or paths; settings of its camera may be changed."""
    order = Order(load_cell(cell), load_part(part), load_production("good"), [0])
    file = order.cell.content
    options = {**file.camera.options, "width": _WIDTH, "height": _HEIGHT, **changed}
    camera = check(options, TwinCameraConfig, f"{order.cell.path}: camera")
    views = planned_views(order, make_shape(order.part))
    with camera.scene(file.scene, world_config(order.cell).pan_m) as renderer:
        yield Studio(order, camera, renderer, views)


def defect_points(part: PartBody) -> NDArray[np.float64]:
    """Points (N, 3) on a part's defects, millimetres."""
    meshes = [*(skin.mesh for skin in part.skins if skin.defect), *part.altered, *part.removed]
    return np.concatenate([np.asarray(mesh.triangles_center) for mesh in meshes])


def _sheet(
    title: str,
    rows: Sequence[str],
    tiles: Sequence[Sequence[tuple[str, NDArray[np.uint8]]]],
    *,
    tile_in: float = 2.6,
) -> Figure:
    columns = max(len(row) for row in tiles)
    figure = Figure(figsize=(tile_in * columns + 1, (tile_in + 0.2) * len(tiles) + 0.6), layout="constrained")
    axes = figure.subplots(len(tiles), columns, squeeze=False)
    for name, row, line in zip(rows, tiles, axes, strict=True):
        for axis, (caption, tile) in zip(line, row, strict=False):
            axis.imshow(tile)
            axis.set_title(caption, fontsize=8)
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
        line[0].set_ylabel(name, fontsize=10)
    figure.suptitle(f"{title} (in simulation)")
    return figure


def _renderers(cell: str, part: str, seed: int, tell: Callable[[], None]) -> Figure:
    """Draw one part with a few defects by each renderer: the same scene, pose and seed."""
    defects = [Defect.model_validate({"kind": kind, "size_mm": (size, size)}) for kind, size in _RENDERED_DEFECTS]
    tiles = []
    for renderer, name in RENDERERS.items():
        with studio_of(cell, part, renderer=renderer, width=1280, height=960) as studio:
            made = studio.make(nuisances=2, defects=defects, seed=seed)
            points = defect_points(made)
            best = max(studio.views, key=lambda view: view.share(points))
            tiles.append((name, _square(studio.show(made, best))))
        tell()
    listed = ", ".join(f"{kind} {size:g} mm" for kind, size in _RENDERED_DEFECTS)
    return _sheet(f"one part on a normal day, with {listed}", [best.name], [tiles], tile_in=3.3)


def _views(studio: Studio, seed: int) -> Figure:
    part = studio.make(nuisances=2, seed=seed)
    tiles = [(view.name, _square(studio.show(part, view))) for view in studio.views]
    half = len(tiles) // 2
    return _sheet("every view, on a normal day", ["GP1", "GP2"], [tiles[:half], tiles[half:]])


def _defects(studio: Studio, seed: int, tell: Callable[[], None]) -> Figure:
    tiles = []
    for kind, sizes in SIZES_MM.items():
        row = []
        for column, size in enumerate(sizes):
            whole = kind == "missing_structure"
            low = 0.1 if whole else size
            defect = Defect.model_validate({"kind": kind, "size_mm": (low, size)})
            try:
                part = studio.make(nuisances=0, defects=[defect], seed=seed + column if whole else seed)
                points = defect_points(part)
                across = float(np.linalg.norm(np.ptp(points, axis=0))) if whole else size
                name, tile = studio.detail(part, points, width_mm=max(_DETAIL_MM, 1.3 * across))
                row.append((f"{across:.2g} mm, {name}", tile))
            except ConfigError:
                row.append((f"{size:g} mm: no place", np.full((8, 8, 3), 255, np.uint8)))
            tell()
        tiles.append(row)
    return _sheet(f"defects, each {_DETAIL_MM:g} mm of the part", list(SIZES_MM), tiles)


def _nuisances(studio: Studio, seed: int, tell: Callable[[], None]) -> Figure:
    rows = []
    view = studio.views[0]
    for level in LEVELS:
        part = studio.make(nuisances=level, seed=seed)
        name, tile = studio.detail(part, _plainest(part, studio.views), width_mm=_LEVEL_DETAIL_MM)
        rows.append([(view.name, _square(studio.show(part, view))), (f"{name}, {_LEVEL_DETAIL_MM:g} mm", tile)])
        tell()
    return _sheet("nuisances that are no defects", [f"level {level}" for level in LEVELS], rows)


def _plainest(part: PartBody, views: Sequence[PlannedView]) -> NDArray[np.float64]:
    """Points (N, 3) of what lies on a part most plainly to be seen from a view; of its rim where nothing does."""
    plain = [skin for skin in part.skins if skin.opacity * abs(1 - skin.reflectance) > _PLAIN and skin.grasps is None]
    specks = [speck for skin in plain for speck in skin.mesh.split(only_watertight=False)]
    for speck in sorted(specks, key=lambda speck: -speck.area):
        points: NDArray[np.float64] = np.asarray(speck.triangles_center)
        if max(view.share(points) for view in views) > _SHOWN:
            return points
    vertices: NDArray[np.float64] = np.asarray(part.mesh.vertices)
    return vertices[vertices[:, 0] > np.quantile(vertices[:, 0], 0.95)]


def _square(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    left = (width - height) // 2
    return image[:, left : left + height]


def _main(
    out: Annotated[Path, typer.Option(help="folder for the sheets")],
    cell: Annotated[str, typer.Option(help="name or path of a cell file of the twin")] = "twin",
    part: Annotated[list[str] | None, typer.Option(help="name or path of a part file; both shipped by default")] = None,
    seed: Annotated[int, typer.Option(min=0, help="everything random follows from it")] = 0,
    renderers: Annotated[
        bool, typer.Option("--renderers", help="one view by each renderer instead; needs EGL and Mitsuba")
    ] = False,
) -> None:
    """Draw the contact sheets."""
    parts = part or (["ring"] if renderers else ["ring", "cap"])
    steps = len(RENDERERS) if renderers else 1 + sum(map(len, SIZES_MM.values())) + len(LEVELS)
    with answering(), progress("drawing", len(parts) * steps) as report:
        out.mkdir(parents=True, exist_ok=True)
        done = 0

        def tell() -> None:
            nonlocal done
            done += 1
            report(done)

        def keep(sheet: Figure, path: Path) -> None:
            require_writable(path)
            sheet.savefig(path, dpi=110)
            screen.print(path)

        for name in parts:
            label = load_part(name).content.name
            if renderers:
                keep(_renderers(cell, name, seed, tell), out / f"{label}-renderers.png")
                continue
            with studio_of(cell, name) as studio:
                keep(_views(studio, seed), out / f"{label}-views.png")
                keep(_defects(studio, seed, tell), out / f"{label}-defects.png")
                keep(_nuisances(studio, seed, tell), out / f"{label}-nuisances.png")
            tell()


if __name__ == "__main__":
    typer.run(_main)
