"""The part as clear polycarbonate: what glass does with light is traced with Mitsuba."""

from __future__ import annotations

import importlib.util
import os
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.interfaces import ConfigError, Pose
from cell.motion.panda import forward
from cell.schema import Scene
from twin.parts.skin import Skin
from twin.rendering.geometry import NOTHING, PART, Geometry, Renderer
from twin.rendering.matt import MattBodies, Surface, matt_light
from twin.rendering.pinhole import Pinhole
from twin.rendering.shading import Lamp, Materials, corner_normals
from twin.rendering.skins import hidden_share
from twin.snapshot import Snapshot

N_POLYCARBONATE = 1.585
SAMPLES = 25
"""Paths of a pixel that shows the part, a square number; `benchmarks/test_photoreal.py` holds them against 529."""

GLINT_SAMPLES = 289
"""Paths more of each pixel near a glint, which glass gives that mirrors the ring light in less than a pixel."""

_INSTALL = "pip install mitsuba"
_INSTALL_LLVM = "apt-get install libllvm19"
_OLDEST_LLVM = (16,)
# Paths of a pixel that shows no glass: enough for edges.
_MATT_SAMPLES = 4
# The ring shines so strongly that a pixel of whose paths one meets it is off by tenths of a full well, and by next to
# nothing otherwise. A glint is long and thin: so many pixels around, its other pixels may have been missed.
_GLINT = 0.1
_GLINT_ACROSS_PX = 11
# How broad the shining ring is, a share of its diameter.
_RING_SHARE = 0.2
_RING_SEGMENTS = 96
# The dark field: a panel so far behind the part that fills a cone of so much to each side, seen from the part; the
# picture's corners need 20°.
_PANEL_MM = 2000.0
_PANEL_DEG = 30.0
# The two sides of a skin are two layers so far apart: beyond the step, 5 µm, that rays take away from a surface.
_SIDES_MM = 0.01


class PhotorealScene:
    """The cell with a clear part.

    It is a `twin.rendering.geometry.Renderer`, whose geometry, and so the truth, is that of another one; and it has
    the light of its own, `trace`, which takes the place of `twin.rendering.shading.shade`.

    Notes
    -----
    Opaque things and skins shine with the light that they scatter when the ring light shines on them directly
    (Lambert, no shadows: the lamps sit around the lens). What the glass does with that light, with the ring itself,
    the dark panel behind the part and the room's light, is traced: reflection and refraction by Fresnel and Snell. So
    every path ends where something shines, and next to no noise is left in what lies on the part. Light that the
    glass gathers on matt things (caustics) is left out.
    """

    def __init__(self, geometry: Renderer, scene: Scene, *, pan_m: float, samples: int = SAMPLES) -> None:
        self._geometry = geometry
        self._bodies = MattBodies(scene, pan_m=pan_m)
        self.samples = samples

    def __enter__(self) -> Self:
        _refuse_where_missing()
        self._geometry.__enter__()
        self._bodies.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.__exit__(kind, error, trace)
        self._geometry.__exit__(kind, error, trace)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        return self._geometry.render(snapshot, camera)

    def trace(
        self,
        snapshot: Snapshot,
        camera: Pinhole,
        lamp: Lamp,
        materials: Materials,
        glass: NDArray[np.bool_],
        *,
        seed: int,
    ) -> NDArray[np.float32]:
        """Return the light (C, H, W) that comes to a camera without distortion; 1 is the sensor's full well.

        Skins that are seen before anything else are lacking: `twin.rendering.skins.lay_skins` lays them on, in finer
        steps than samples.

        Parameters
        ----------
        glass : (H, W) bool
            Pixels that may show the part: many paths are traced there, and few elsewhere.
        seed : int
            What the paths follow from, 32 bits.
        """
        import mitsuba as mi

        n_channels = materials.albedo.shape[1]
        mi.set_variant("llvm_ad_mono" if n_channels == 1 else "llvm_ad_rgb")
        frame = forward(snapshot.joints) if snapshot.part_pose is None else snapshot.part_pose
        scene = _load(self._bodies.surfaces(snapshot), snapshot, frame, camera, lamp, materials)
        light, error = np.empty((n_channels, *glass.shape), np.float32), np.zeros(glass.shape, np.float32)
        light[:, ~glass], _ = _mean_light(scene, ~glass, samples=_MATT_SAMPLES, seed=seed ^ 1)
        light[:, glass], error[glass] = _mean_light(scene, glass, samples=self.samples, seed=seed)
        glints = glass & (cv2.dilate(error, np.ones((_GLINT_ACROSS_PX, _GLINT_ACROSS_PX))) > _GLINT)
        more, _ = _mean_light(scene, glints, samples=GLINT_SAMPLES, seed=seed ^ 2)
        light[:, glints] += (more - light[:, glints]) * (GLINT_SAMPLES / (self.samples + GLINT_SAMPLES))
        return light


def _refuse_where_missing() -> None:
    """Raise `ConfigError` with the line that installs what is missing."""
    if importlib.util.find_spec("mitsuba") is None:
        raise ConfigError(f"camera: renderer photoreal needs mitsuba: {_INSTALL}")
    import mitsuba as mi

    found = "none was found"
    try:
        mi.set_variant("llvm_ad_mono")
        import drjit as dr

        version = dr.detail.llvm_version()
        # An older one is taken, and ends the process at the first picture.
        if version >= _OLDEST_LLVM:
            return
        found = f"{'.'.join(map(str, version))} was found"
    except ImportError:
        pass
    path = os.environ.get("DRJIT_LIBLLVM_PATH")
    where = f" (DRJIT_LIBLLVM_PATH is {path})" if path else ""
    raise ConfigError(f"camera: renderer photoreal needs LLVM 16 or newer, {found}{where}: {_INSTALL_LLVM}")


def _mean_light(
    scene: Any, pixels: NDArray[np.bool_], *, samples: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean light (C, N) of so many paths in each of the N pixels that are marked in (H, W).

    And its standard error (N,), of the channel where it is largest, as if the paths had nothing to do with each other.
    """
    import drjit as dr
    import mitsuba as mi

    rows, columns = np.nonzero(pixels)
    if len(rows) == 0:
        return np.empty((dr.size_v(mi.Spectrum), 0), np.float32), np.empty(0, np.float32)
    sensor, sampler = scene.sensors()[0], mi.load_dict({"type": "multijitter", "sample_count": samples})
    samples = sampler.sample_count()
    sampler.set_samples_per_wavefront(samples)
    sampler.seed(seed, len(rows) * samples)
    pixel = dr.arange(mi.UInt32, len(rows) * samples) // samples
    corner = mi.Point2f(*(dr.gather(mi.Float, mi.Float(axis.astype(np.float32)), pixel) for axis in (columns, rows)))
    height, width = pixels.shape
    ray, _ = sensor.sample_ray(0.0, 0.5, (corner + sampler.next_2d()) / mi.Point2f(width, height), mi.Point2f(0.5))
    light, _, _ = scene.integrator().sample(scene, sampler, ray)
    paths: NDArray[np.float32] = np.array(light, dtype=np.float32).reshape(-1, len(rows), samples)
    mean = paths.mean(axis=2)
    variance = np.einsum("cns,cns->cn", paths, paths) / samples - mean**2  # nothing as large as the paths
    return mean, np.sqrt(np.maximum(variance, 0).max(axis=0) / samples)


def _load(
    bodies: list[Surface], snapshot: Snapshot, frame: Pose, camera: Pinhole, lamp: Lamp, materials: Materials
) -> Any:
    """Build Mitsuba's scene, millimetres in the part's frame, in which its small offsets are smallest."""
    import mitsuba as mi

    from twin.rendering.specular import specular_integrator

    to_frame = frame.inverse()
    eye = to_frame @ camera.pose
    k = camera.intrinsics
    looks = np.eye(4)
    # Mitsuba's camera has x to the left and y up.
    looks[:3, :3] = eye.rotation * (-1, -1, 1)
    looks[:3, 3] = eye.position_m * 1000
    behind = np.eye(4)
    behind[:3, :3] = eye.rotation * (_PANEL_MM * np.tan(np.radians(_PANEL_DEG)) * np.array([1, -1, -1]))
    behind[:3, 3] = eye.position_m * 1000 + eye.rotation[:, 2] * (lamp.distance_m * 1000 + _PANEL_MM)
    panel = materials.albedo[NOTHING] * np.float32(lamp.white) * materials.brightness[NOTHING]
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {
            "type": specular_integrator(),
            "index": N_POLYCARBONATE,
            "gloss": 1.0 if snapshot.part is None else snapshot.part.gloss,
        },
        "camera": {
            "type": "perspective",
            "to_world": mi.ScalarTransform4f(looks),
            "fov": float(np.degrees(2 * np.arctan(k.width / 2 / k.fx))),
            "fov_axis": "x",
            # So far the picture's middle lies right of, and below, the principal point.
            "principal_point_offset_x": 0.5 - k.cx / k.width,
            "principal_point_offset_y": 0.5 - k.cy / k.height,
            "near_clip": 10.0,
            "far_clip": 1e5,
            "film": {"type": "hdrfilm", "width": k.width, "height": k.height},
        },
        "room": {"type": "constant", "radiance": lamp.white * lamp.ambient},
        "panel": {
            "type": "disk",
            "to_world": mi.ScalarTransform4f(behind),
            "bsdf": _black(),
            "emitter": {"type": "area", "radiance": _colour(panel)},
        },
        "ring": _ring(lamp, eye),
    }
    for number, body in enumerate(bodies):
        points = to_frame.apply(body.points_m).reshape(-1, 3, 3)
        light = matt_light(camera.pose.inverse(), body.points_m, body.normals, lamp)
        albedo = materials.albedo[body.kinds] * materials.brightness[body.kinds, np.newaxis]
        scene[f"body{number}"] = _shining(points * 1000, light[:, np.newaxis] * albedo)
    part = snapshot.part
    if part is not None and snapshot.part_pose is not None:
        scene["part"] = _glass(part.mesh)
        if snapshot.skins:
            scene["skins"] = _skins(snapshot.skins, eye.inverse(), lamp, materials.albedo[PART])
    return mi.load_dict(scene)


def _black() -> dict[str, Any]:
    return {"type": "diffuse", "reflectance": {"type": "uniform", "value": 0.0}}


def _colour(values: NDArray[np.float32]) -> dict[str, Any]:
    if len(values) == 1:
        return {"type": "uniform", "value": float(values[0])}
    return {"type": "rgb", "value": values.tolist()}


def _mesh(
    corners_mm: NDArray[np.float64],
    properties: dict[str, Any],
    attributes: dict[str, NDArray[np.float32]],
    normals: NDArray[np.float32] | None = None,
) -> Any:
    """Make a mesh of triangles (T, 3, 3) that share no corners; attributes are (3 T, n)."""
    import mitsuba as mi

    made = mi.Properties()
    for name, value in properties.items():
        made[name] = mi.load_dict(value)
    count = len(corners_mm)
    mesh = mi.Mesh("mesh", 3 * count, count, has_vertex_normals=normals is not None, props=made)
    for name, values in attributes.items():
        mesh.add_attribute(name, values.shape[1], np.ascontiguousarray(values, dtype=np.float32).ravel())
    given = mi.traverse(mesh)
    given["vertex_positions"] = corners_mm.astype(np.float32).ravel()
    given["faces"] = np.arange(3 * count, dtype=np.uint32)
    if normals is not None:
        given["vertex_normals"] = normals.astype(np.float32).ravel()
    given.update()
    return mesh


def _shining(corners_mm: NDArray[np.float64], light: NDArray[np.float32]) -> Any:
    """Make opaque triangles that shine with the light (3 T, C) that they scatter."""
    radiance = {"type": "mesh_attribute", "name": "vertex_light"}
    properties = {"mesh_bsdf": _black(), "mesh_emitter": {"type": "area", "radiance": radiance}}
    return _mesh(corners_mm, properties, {"vertex_light": light})


def _glass(mesh: trimesh.Trimesh) -> Any:
    # How much it mirrors and refracts the integrator knows.
    return _mesh(np.asarray(mesh.triangles), {"mesh_bsdf": {"type": "dielectric"}}, {}, corner_normals(mesh))


def _ring(lamp: Lamp, eye: Pose) -> Any:
    """Make a flat ring around the lens that shines ahead as strongly as the lamps together."""
    radius = float(np.linalg.norm(lamp.positions_m[0])) * 1000
    inner, outer = radius * (1 - _RING_SHARE / 2), radius * (1 + _RING_SHARE / 2)
    angle = np.linspace(0, 2 * np.pi, _RING_SEGMENTS + 1)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    a, b, c, d = inner * circle[:-1], outer * circle[:-1], outer * circle[1:], inner * circle[1:]
    corners = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    area_m2 = np.pi * (outer**2 - inner**2) * 1e-6
    light = np.full((3 * len(corners), 1), lamp.white * np.pi * lamp.distance_m**2 / area_m2, np.float32)
    return _shining(corners @ eye.rotation.T + eye.position_m * 1000, light)


def _skins(skins: tuple[Skin, ...], to_camera: Pose, lamp: Lamp, albedo: NDArray[np.float32]) -> Any:
    """Make skins of thin matter that hides a share of what is behind it and scatters light to both sides."""
    corners = np.concatenate([np.asarray(skin.mesh.triangles) for skin in skins])
    counts = [len(skin.mesh.faces) for skin in skins]
    reflectance = np.repeat([skin.reflectance for skin in skins], counts)
    hides = hidden_share(np.repeat([skin.opacity for skin in skins], counts), reflectance)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    both = np.concatenate([corners, corners[:, ::-1] - _SIDES_MM * normals[:, np.newaxis]])
    facing = np.repeat(np.concatenate([normals, -normals]), 3, axis=0)
    light = matt_light(to_camera, both.reshape(-1, 3) / 1000, facing, lamp)
    scattered = np.repeat(np.tile(hides * reflectance, 2), 3)[:, np.newaxis] * np.minimum(albedo, 1.0)
    # Both layers together hide what one is to hide.
    opacity = np.repeat(np.tile(1 - np.sqrt(1 - hides), 2), 3)
    properties = {
        "mesh_bsdf": {
            "type": "mask",
            "opacity": {"type": "mesh_attribute", "name": "vertex_opacity"},
            "nested": _black(),
        },
        "mesh_emitter": {"type": "area", "radiance": {"type": "mesh_attribute", "name": "vertex_light"}},
    }
    attributes = {"vertex_light": light[:, np.newaxis] * scattered, "vertex_opacity": opacity[:, np.newaxis]}
    return _mesh(both, properties, attributes)
