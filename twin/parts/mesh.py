"""Any part whose shape is a mesh in a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import NDArray
from pydantic import Field

from cell.schema import Block, FileModel, Vector
from twin.parts.hulls import convex_pieces
from twin.parts.shape import Shape

_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4}
_FORMATS = (".stl", ".obj", ".ply")
_MOST_FACES = 300_000


class PartRepairedWarning(UserWarning):
    """A mesh was not as it should be, and what was done about it."""


class MeshPartConfig(FileModel):
    """Where the mesh is and how it is to be read."""

    file: Path = Field(description="STL, OBJ or PLY, relative to the part file")
    unit: Literal["mm", "cm", "m", "in"] = "mm"
    origin_mm: Vector = Field((0.0, 0.0, 0.0), description="the mesh's point that is the origin of the part's frame")
    structures: tuple[Block, ...] = Field((), description="boxes in the part's frame, each around a small structure")
    hulls: int = Field(60, ge=1, le=200, description="convex pieces at most that stand for it in contacts")


class MeshPart:
    """Reader of a mesh as a part."""

    Config = MeshPartConfig

    def __init__(self, config: MeshPartConfig) -> None:
        self._config = config

    def make(self, folder: Path) -> Shape:
        """Read and check the mesh; see `ShapeMaker`. What is repaired is said by a `PartRepairedWarning`."""
        c = self._config
        mesh = _repaired(_read(folder / c.file), c.file)
        mesh.apply_scale(_MM[c.unit])
        mesh.apply_translation(-np.array(c.origin_mm))
        structures = []
        for block in c.structures:
            around = trimesh.creation.box(bounds=(block.low_mm, block.high_mm))
            structure = trimesh.boolean.intersection([mesh, around], engine="manifold")
            if structure.is_empty:
                raise ValueError(f"structures: nothing of the mesh lies between {block.low_mm} and {block.high_mm} mm")
            structures.append(structure)
        return Shape(mesh, convex_pieces(mesh, c.hulls), tuple(structures))


def _read(path: Path) -> trimesh.Trimesh:
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path}: is none of {', '.join(_FORMATS)}")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        mesh = trimesh.load_mesh(path, process=True)
    except Exception as error:  # the readers of trimesh raise whatever a broken file leads to
        raise ValueError(f"{path}: is no readable {path.suffix[1:].upper()} file: {error}") from error
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise ValueError(f"{path}: holds no triangles")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path}: holds vertices that are no numbers")
    if len(mesh.faces) > _MOST_FACES:
        raise ValueError(f"{path}: has {len(mesh.faces)} triangles, more than {_MOST_FACES}: export it coarser")
    return mesh


def _repaired(mesh: trimesh.Trimesh, file: Path) -> trimesh.Trimesh:
    """Return a closed solid with its normals outwards. Raises `ValueError` where a hole cannot be closed safely."""
    mesh.merge_vertices(merge_tex=True, merge_norm=True)
    mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
    mesh.remove_unreferenced_vertices()
    if not mesh.is_winding_consistent:
        trimesh.repair.fix_winding(mesh)
        _warn(file, "some triangles were turned inside out; they were turned to match their neighbours")
    if not mesh.is_watertight:
        before = len(mesh.faces)
        holes = _open_edges(mesh)
        # Three- and four-sided holes have one sensible lid; what a larger one looked like nobody knows.
        trimesh.repair.fill_holes(mesh)
        left = _open_edges(mesh)
        if len(left):
            x, y, z = mesh.vertices[left].reshape(-1, 3).mean(axis=0)
            raise ValueError(
                f"{file}: has holes: {len(left)} edges belong to one triangle only, around ({x:.4g}, {y:.4g}, {z:.4g}) "
                "in the file's unit; close them in the program that made it"
            )
        _warn(file, f"{len(holes)} open edges were closed with {len(mesh.faces) - before} triangles")
    if not mesh.is_watertight:
        raise ValueError(f"{file}: is no closed surface: more than two triangles meet in an edge; export it as a solid")
    if mesh.body_count > 1:
        raise ValueError(f"{file}: holds {mesh.body_count} separate bodies; a part is one: join or remove them")
    if mesh.volume < 0:
        mesh.invert()
        _warn(file, "all normals pointed inwards; the mesh was turned inside out")
    return mesh


def _open_edges(mesh: trimesh.Trimesh) -> NDArray[np.int64]:
    edges, counts = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    return np.asarray(edges[counts == 1])


def _warn(file: Path, what: str) -> None:
    warnings.warn(f"{file}: {what}", PartRepairedWarning, stacklevel=4)
