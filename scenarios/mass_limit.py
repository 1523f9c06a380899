"""The smallest short shot that the mass alone can find: `python -m scenarios.mass_limit [--part P] [--out DIR]`.

Good parts scatter in size and density, and the scale adds its own; what is missing must stand out from both. With
``--out`` the figures go to ``mass_limit.json``.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from scipy.stats import norm

from cell.commands.console import answering, require_writable, write_text
from cell.commands.console import out as screen
from cell.config import load_cell, load_class, load_part
from cell.interfaces import ConfigError, Scale
from cell.schema import Moulding
from twin.parts.shape import make_shape
from twin.scale import TwinScaleConfig


@dataclass(frozen=True)
class Limit:
    """What a tolerance finds.

    Attributes
    ----------
    name : str
        Whose tolerance it is.
    sigma_g : float
        Standard deviation of the weighed mass of good parts about the nominal one.
    tolerance_g : float
    good_rejected : float
        Share of good parts whose mass lies outside.
    smallest_g, smallest_mm3, smallest_share : float
        What must be missing, at the least, to be found as often as asked: mass, volume, and share of the part.
    structures_found : int
        How many of the part's small structures weigh as much: of these, one that is not filled at all is found.
    """

    name: str
    sigma_g: float
    tolerance_g: float
    good_rejected: float
    smallest_g: float
    smallest_mm3: float
    smallest_share: float
    structures_found: int


def good_spread(moulding: Moulding) -> tuple[float, float]:
    """Return the relative standard deviation of good parts' mass: between shots of a cavity, and between cavities.

    Mass goes with the cube of size; ovality keeps the volume, to first order.
    """
    return (
        math.hypot(moulding.mass, 3 * moulding.size),
        math.hypot(moulding.cavity_mass, 3 * moulding.cavity_size),
    )


def scale_spread_g(scale: TwinScaleConfig) -> float:
    """Return the standard deviation of a weighing: means of readings with and without the part, drift, and steps."""
    reading = scale.noise_g / math.sqrt(scale.stable_readings)
    return math.hypot(reading, reading, scale.drift_g, scale.step_g / math.sqrt(12))


def smallest_missing_g(sigma_g: float, tolerance_g: float, found: float) -> float:
    """Return what must be missing so that the share `found` of such parts is lighter than the tolerance allows."""
    return tolerance_g + float(norm.ppf(found)) * sigma_g


def mass_limits(cell: str, part: str, *, found: float, good_rejected: float) -> tuple[Limit, ...]:
    """Return what the part file's tolerance finds, and the tightest ones that reject so few good parts.

    Raises
    ------
    ConfigError
        The cell's scale is not one of the twin, whose noise is known; or a file is wrong.
    """
    file, loaded = load_cell(cell), load_part(part)
    _, config = load_class(file.content.scale, f"{file.path}: scale", like=Scale)
    if not isinstance(config, TwinScaleConfig):
        raise ConfigError(f"{file.path}: scale: its noise is known for a scale of the twin alone; give the twin's cell")
    content, shape = loaded.content, make_shape(loaded)
    nominal = content.mass.nominal_g
    weights = [abs(float(piece.volume)) * 1e-3 * content.density_g_cm3 for piece in shape.structures]
    shots, cavities = good_spread(content.moulding)
    scale = scale_spread_g(config)
    one_cavity, all_cavities = (
        math.hypot(shots * nominal, scale),
        math.hypot(shots * nominal, cavities * nominal, scale),
    )
    z = float(norm.ppf(1 - good_rejected / 2))

    def limit(name: str, sigma: float, tolerance: float) -> Limit:
        missing = smallest_missing_g(sigma, tolerance, found)
        return Limit(
            name,
            sigma,
            tolerance,
            2 * float(norm.sf(tolerance / sigma)),
            missing,
            missing / content.density_g_cm3 * 1e3,
            missing / nominal,
            sum(weight >= missing for weight in weights),
        )

    return (
        limit("part file", all_cavities, content.mass.tolerance_g),
        limit("tightest", all_cavities, z * all_cavities),
        limit("tightest, by cavity", one_cavity, z * one_cavity),
        limit("scale alone", scale, z * scale),
    )


def _main(
    part: Annotated[str, typer.Option(help="name or path of a part file")] = "ring",
    cell: Annotated[str, typer.Option(help="name or path of a cell file with the twin's scale")] = "twin",
    found: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="share of such short shots that are to be found")
    ] = (0.95),
    good_rejected: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="share of good parts that a tightest tolerance may reject")
    ] = 0.001,
    out: Annotated[Path | None, typer.Option(help="folder for mass_limit.json")] = None,
) -> None:
    """Tell how much must be missing for the mass alone to find it."""
    with answering():
        limits = mass_limits(cell, part, found=found, good_rejected=good_rejected)
        table = Table(
            title=f"{part}: the smallest short shot of which mass alone finds {100 * found:g} % (in simulation)"
        )
        for title in (
            "tolerance",
            "±g",
            "σ of good, g",
            "good rejected",
            "lacks g",
            "mm³",
            "% of the part",
            "structures",
        ):
            table.add_column(title, justify="left" if title == "tolerance" else "right")
        for each in limits:
            table.add_row(
                each.name,
                f"{each.tolerance_g:.3f}",
                f"{each.sigma_g:.3f}",
                f"{each.good_rejected:.2g}",
                f"{each.smallest_g:.3f}",
                f"{each.smallest_mm3:.0f}",
                f"{100 * each.smallest_share:.2f}",
                str(each.structures_found),
            )
        screen.print(table)
        screen.print(
            "structures: how many of the part's small ones weigh as much, and are found where they are missing"
        )
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            path = out / "mass_limit.json"
            require_writable(path)
            summary = {"found": found, "good_rejected": good_rejected, "limits": [asdict(each) for each in limits]}
            write_text(path, json.dumps(summary, indent=2))
            screen.print(path)


if __name__ == "__main__":
    typer.run(_main)
