"""Light that shining things send to a camera through clear ones: paths that mirror and refract, and nothing else."""

from __future__ import annotations

from functools import cache

import drjit as dr
import mitsuba as mi

# Inside a wall light goes to and fro; after so many surfaces next to nothing of it is left.
_MAX_DEPTH = 16


def specular_integrator() -> str:
    """Return the name under which Mitsuba's present variant knows the integrator of this module.

    Its properties are the `index` of refraction of all that is clear, and its `gloss`: times what Fresnel's equations
    say is mirrored.

    Notes
    -----
    Where everything that is not clear shines by itself, the light of a path is what it meets, and no lamp needs to be
    asked at any surface: with the same noise this takes a sixth of the time of Mitsuba's own `path`.

    At glass a path splits in two as Fresnel weighs them. It is followed where it is heavier each time, and nothing of
    that is left to chance. For all that leaves it, one path more sets out at one of its surfaces, drawn by what leaves
    there, and goes on by chance. So there is little noise and nothing to denoise, which would cost small defects.

    A thin layer (`mask`) takes its share of the light and lets the path go on, without chance; those before the first
    glass are passed as if they were not there.
    """
    return _registered(mi.variant())


@cache
def _registered(variant: str) -> str:
    class Specular(mi.SamplingIntegrator):  # type: ignore[misc]
        def __init__(self, properties: mi.Properties) -> None:
            super().__init__(properties)
            self.index, self.gloss = properties["index"], properties["gloss"]

        @dr.syntax
        def sample(self, scene, sampler, ray, medium=None, active=True):  # type: ignore[no-untyped-def]
            ray, left, light, depth = mi.Ray3f(ray), mi.Spectrum(1.0), mi.Spectrum(0.0), mi.UInt32(0)
            going, inside = mi.Bool(active), mi.Bool(False)
            stays, leaves = mi.Float(1.0), mi.Float(0.0)
            aside, aside_left, aside_depth = mi.Ray3f(ray), mi.Spectrum(0.0), mi.UInt32(0)
            while going:
                met = scene.ray_intersect(ray, mi.RayFlags.All, coherent=depth == 0, active=going)
                bsdf = met.bsdf()
                thin, clear = _kind(bsdf)
                light += left * _shines(scene, met, going & (inside | ~thin))
                depth += 1
                going &= met.is_valid() & (depth < _MAX_DEPTH) & (thin | clear)
                splits = going & clear
                reflectance, mirrored, refracted = _ways(met, self.index)
                most, mirrors = dr.maximum(reflectance, 1 - reflectance), reflectance > 0.5
                off = dr.select(splits, stays * (1 - most), 0.0)
                leaves += off
                drawn = (off > 0) & (sampler.next_1d(going) * leaves < off)
                other = met.to_world(dr.select(mirrors, refracted, mirrored))
                aside = dr.select(drawn, met.spawn_ray(other), aside)
                aside_left = dr.select(drawn, left * dr.select(mirrors, 1.0, self.gloss) / stays, aside_left)
                aside_depth = dr.select(drawn, depth, aside_depth)
                left *= dr.select(clear, most * dr.select(mirrors, self.gloss, 1.0), 1.0)
                stays *= dr.select(clear, most, 1.0)
                left *= dr.select(thin & inside, _passes(met, bsdf, going & thin), 1.0)
                inside |= clear
                way = met.to_world(dr.select(mirrors, mirrored, refracted))
                ray = met.spawn_ray(dr.select(clear, way, ray.d))
            ray, left, depth = mi.Ray3f(aside), aside_left * leaves, mi.UInt32(aside_depth)
            going = mi.Bool(active) & (leaves > 0)

            while going:
                met = scene.ray_intersect(ray, mi.RayFlags.All, coherent=False, active=going)
                bsdf = met.bsdf()
                thin, clear = _kind(bsdf)
                light += left * _shines(scene, met, going)
                depth += 1
                going &= met.is_valid() & (depth < _MAX_DEPTH) & (thin | clear)
                reflectance, mirrored, refracted = _ways(met, self.index)
                mirrors = sampler.next_1d(going) < reflectance
                left *= dr.select(clear & mirrors, self.gloss, 1.0)
                left *= dr.select(thin, _passes(met, bsdf, going & thin), 1.0)
                way = met.to_world(dr.select(mirrors, mirrored, refracted))
                ray = met.spawn_ray(dr.select(clear, way, ray.d))
            return light, mi.Bool(True), []

    name = f"specular_{variant}"
    mi.register_integrator(name, Specular)
    return name


def _kind(bsdf: mi.BSDFPtr) -> tuple[mi.Bool, mi.Bool]:
    """Whether surfaces are thin layers, and whether they are clear; to Mitsuba the former are delta functions too."""
    thin = mi.has_flag(bsdf.flags(), mi.BSDFFlags.Null)
    return thin, ~thin & mi.has_flag(bsdf.flags(), mi.BSDFFlags.Delta)


def _ways(met: mi.SurfaceInteraction3f, index: float) -> tuple[mi.Float, mi.Vector3f, mi.Vector3f]:
    """Fresnel's reflectance of glass, and where light is mirrored to and refracted to, in the surface's frame.

    Radiance inside of glass is not multiplied by the square of its index: every path that counts leaves it again.
    """
    reflectance, cosine, _, inverse_index = mi.fresnel(mi.Frame3f.cos_theta(met.wi), index)
    return reflectance, mi.reflect(met.wi), mi.refract(met.wi, cosine, inverse_index)


def _shines(scene: mi.Scene, met: mi.SurfaceInteraction3f, counts: mi.Bool) -> mi.Spectrum:
    """Light that comes from what is met; on slivers what Mitsuba finds between their corners is not a number."""
    light = met.emitter(scene).eval(met, counts)
    return dr.select(dr.isfinite(light), light, 0.0)


def _passes(met: mi.SurfaceInteraction3f, bsdf: mi.BSDFPtr, counts: mi.Bool) -> mi.Spectrum:
    """Share of light that thin layers let through; all of it on slivers."""
    share = bsdf.eval_null_transmission(met, counts)
    return dr.select(dr.isfinite(share), share, 1.0)
