import numpy as np
import pytest
import trimesh

from cell.interfaces import Intrinsics, Pose
from twin.rendering.geometry import NOTHING, PART, Geometry
from twin.rendering.raster import nearest_faces, project_triangles
from twin.rendering.shading import Lamp, Materials, Mirrored, corner_normals, shade

K = Intrinsics(200.0, 200.0, 40.0, 30.0, 80, 60)
LAMP = Lamp.ring(0.1, lamps=8, white=0.8, distance_m=0.42, ambient=0.0)


def materials(reflectance=0.0, roughness=0.3):
    albedo = np.full((6, 1), 0.5, np.float32)
    full = np.ones(6, np.float32)
    return Materials(albedo, reflectance * full, roughness * full, full)


def reference(point, normal, reflectance, alpha):
    """Lambert and Cook-Torrance (GGX; Walter et al., 2007), the sum over the lamps, in double precision."""
    view = -point / np.linalg.norm(point)
    total = 0.0
    for x, y in LAMP.positions_m.astype(float):
        way = np.array([x, y, 0.0]) - point
        distance = np.linalg.norm(way)
        light = way / distance
        half = (light + view) / np.linalg.norm(light + view)
        cosine = max(normal @ light, 0)
        d = alpha**2 / (np.pi * ((normal @ half) ** 2 * (alpha**2 - 1) + 1) ** 2)
        k = alpha / 2
        g = cosine / (cosine * (1 - k) + k) * (normal @ view) / ((normal @ view) * (1 - k) + k)
        brdf = 0.5 / np.pi + (d * g * reflectance / (4 * cosine * (normal @ view)) if cosine else 0)
        total += np.pi * brdf * cosine * -light[2] * 0.8 * (0.42 / distance) ** 2 / len(LAMP.positions_m)
    return total


@pytest.mark.parametrize("turn_deg", [0, 25, -60])
@pytest.mark.parametrize("reflectance", [1e-6, 0.05])
def test_light_is_that_of_the_formulas(wall, turn_deg, reflectance):
    there = wall(K, depth_m=0.42, turn_deg=turn_deg)
    light = shade(there.geometry, K, LAMP, materials(reflectance), part=None, mirrored=None)[0]
    for y, x in ((30, 40), (10, 20), (50, 60)):
        z = float(there.geometry.depth_m[y, x])
        point = np.array([(x + 0.5 - K.cx) / K.fx, (y + 0.5 - K.cy) / K.fy, 1.0]) * z
        normal = -there.pose.rotation[:, 2]
        assert light[y, x] == pytest.approx(reference(point, normal, reflectance, 0.3), rel=0.01)


def test_matt_surfaces_are_lit_as_by_a_lamp_in_the_rings_middle(wall):
    there = wall(K, depth_m=0.42, turn_deg=30)
    whole = shade(there.geometry, K, LAMP, materials(0.0), part=None, mirrored=None)
    lamps = shade(there.geometry, K, LAMP, materials(1e-6), part=None, mirrored=None)
    np.testing.assert_allclose(whole, lamps, rtol=0.04)


def test_curved_surfaces_are_smooth_and_edges_stay_edges():
    ball = trimesh.creation.icosphere(subdivisions=3)
    exact = ball.triangles / np.linalg.norm(ball.triangles, axis=-1, keepdims=True)
    np.testing.assert_allclose(corner_normals(ball), exact, atol=0.01)
    box = trimesh.creation.box((1, 2, 3))
    np.testing.assert_allclose(corner_normals(box), np.repeat(box.face_normals[:, np.newaxis], 3, axis=1), atol=1e-6)


def test_slivers_are_shaded_as_what_they_lie_along():
    """A square in two halves, between them a sliver that stands upright by 2 µm."""
    corners = [[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0], [5, 5, 0.002]]
    square = trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 4], [0, 4, 3], [4, 2, 3]], process=False)
    assert abs(square.face_normals[1, 2]) < 0.1
    np.testing.assert_allclose(corner_normals(square), np.broadcast_to((0, 0, 1), (4, 3, 3)), atol=1e-3)


def test_the_part_is_shaded_by_its_mesh_as_if_that_were_round():
    """A ball of flat facets: light falls off as on a ball, against the formulas at the exact normals."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=60.0)
    y, x = np.mgrid[:60, :80] + 0.5
    rays = np.stack([(x - K.cx) / K.fx, (y - K.cy) / K.fy, np.ones_like(x)], axis=-1)
    square, along = (rays**2).sum(axis=-1), 0.48 * rays[..., 2]
    root = along**2 - square * (0.48**2 - 0.06**2)
    depth = np.where(root > 0, (along - np.sqrt(np.maximum(root, 0))) / square, 2.5).astype(np.float32)
    surface = np.where(root > 0, PART, NOTHING).astype(np.uint8)
    pose = Pose(np.eye(3), np.array([0, 0, 0.48]))
    triangles = project_triangles(pose.apply(ball.triangles / 1000), K)
    geometry = Geometry(depth, surface, nearest_faces(triangles, *depth.shape)[0])
    light = shade(geometry, K, LAMP, materials(0.05), part=(ball, pose), mirrored=None)[0]
    for row, column in ((30, 40), (25, 50), (45, 30), (30, 60)):
        point = rays[row, column] * depth[row, column]
        normal = (point - pose.position_m) / 0.06
        assert light[row, column] == pytest.approx(reference(point, normal, 0.05, 0.3), rel=0.03)


def test_the_part_mirrors_what_it_faces_and_nothing_else(wall):
    there = wall(K, depth_m=0.42)
    assert (there.geometry.surface == PART).all()
    plain = shade(there.geometry, K, LAMP, materials(), part=None, mirrored=None)[0]
    for place, changed in (((0, 0, 0.3), True), ((0, 0, 0.6), False)):
        box = Mirrored(np.array([[[-0.005] * 3, [0.005] * 3]], np.float32), Pose(np.eye(3), np.array(place)), 0.5)
        light = shade(there.geometry, K, LAMP, materials(), part=None, mirrored=box)[0]
        assert (light[30, 40] > plain[30, 40] + 0.1) == changed
        assert light[5, 5] == plain[5, 5]
