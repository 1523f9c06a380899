"""Light that shining things send to a camera through clear ones: paths that mirror and refract, and nothing else."""

from __future__ import annotations

from functools import cache

import drjit as dr
import mitsuba as mi

# Inside a wall light goes to and fro; after so many surfaces next to nothing of it is left.
_MAX_DEPTH = 16


def specular_integrator() -> str:
    """Return the name under which Mitsuba's present variant knows the integrator of this module.

    Notes
    -----
    Where everything that is not clear shines by itself, the light of a path is what it meets, and no lamp needs to be
    asked at any surface: with the same noise this takes a sixth of the time of Mitsuba's own `path`. At glass a path
    goes one of its two ways, by chance as Fresnel weighs them. A thin layer (`mask`) takes its share of the light and
    lets the path go on, without chance; those before the first glass are passed as if they were not there.

    No layer turns a path, so one path knows its light with them and without: the picture is without, and what they
    change follows in channels of its own, one for each of the picture's.
    """
    return _registered(mi.variant())


@cache
def _registered(variant: str) -> str:
    class Specular(mi.SamplingIntegrator):  # type: ignore[misc]
        def aov_names(self) -> list[str]:
            return [f"change{channel}" for channel in range(dr.size_v(mi.Spectrum))]

        @dr.syntax
        def sample(self, scene, sampler, ray, medium=None, active=True):  # type: ignore[no-untyped-def]
            ray = mi.Ray3f(ray)
            left, light = mi.Spectrum(1.0), mi.Spectrum(0.0)
            through, change = mi.Spectrum(1.0), mi.Spectrum(0.0)
            going, inside, depth = mi.Bool(active), mi.Bool(False), mi.UInt32(0)
            while going:
                met = scene.ray_intersect(ray, mi.RayFlags.All, coherent=depth == 0, active=going)
                bsdf = met.bsdf()
                thin = mi.has_flag(bsdf.flags(), mi.BSDFFlags.Null)
                # To Mitsuba a layer that lets light straight on is a delta function too.
                clear = ~thin & mi.has_flag(bsdf.flags(), mi.BSDFFlags.Delta)
                shines = met.emitter(scene).eval(met, going & (inside | ~thin))
                # On slivers, which the hand's meshes have, the light between a triangle's corners is not a number.
                emitted = left * dr.select(dr.isfinite(shines), shines, 0.0)
                light += dr.select(thin, 0.0, emitted)
                change += emitted * (through - dr.select(thin, 0.0, 1.0))
                depth += 1
                going &= met.is_valid() & (depth < _MAX_DEPTH) & (thin | clear)
                turned, weight = bsdf.sample(
                    mi.BSDFContext(), met, sampler.next_1d(going), sampler.next_2d(going), going & clear
                )
                left *= dr.select(clear, weight, 1.0)
                through *= dr.select(thin & inside, bsdf.eval_null_transmission(met, going & thin), 1.0)
                inside |= clear
                ray = met.spawn_ray(dr.select(clear, met.to_world(turned.wo), ray.d))
            return light, mi.Bool(True), [change[channel] for channel in range(dr.size_v(mi.Spectrum))]

    name = f"specular_{variant}"
    mi.register_integrator(name, Specular)
    return name
