"""Whether two datasets hold the same pictures: `python -m scenarios.compare_datasets A B [--tolerance N]`.

The same seed, renderer and machine give the same bytes. Across machines, graphics drivers and compilers round
differently; the tolerance, in grey levels, says how much of that is meant to pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from detection.errors import PictureError
from detection.pictures import SUFFIXES, read_picture


@dataclass(frozen=True)
class Difference:
    """How two pictures of the same name differ: absolute differences in grey levels, over all channels."""

    name: str
    largest: float
    mean: float


@dataclass(frozen=True)
class Comparison:
    """What two datasets have in common.

    Attributes
    ----------
    identical : int
        Pictures that are equal byte by byte.
    differing : tuple of Difference
        Pictures whose bytes differ, largest difference first; of another size: infinitely.
    missing : tuple of str
        Pictures that only one of the two has, and which.
    """

    identical: int
    differing: tuple[Difference, ...]
    missing: tuple[str, ...]

    def agrees(self, tolerance: float) -> bool:
        """Whether nothing is missing and no pixel differs by more than so many grey levels."""
        return not self.missing and all(each.largest <= tolerance for each in self.differing)


def compare(one: Path, other: Path) -> Comparison:
    """Compare every picture below two folders: of the parts, of what is masked, and of the truth."""
    first, second = _pictures(one), _pictures(other)
    missing = [f"{name}: only in {one}" for name in first - second]
    missing += [f"{name}: only in {other}" for name in second - first]
    identical, differing = 0, []
    for name in sorted(first & second):
        if (one / name).read_bytes() == (other / name).read_bytes():
            identical += 1
        else:
            differing.append(_difference(name, one / name, other / name))
    return Comparison(identical, tuple(sorted(differing, key=lambda each: -each.largest)), tuple(sorted(missing)))


def _pictures(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}


def _difference(name: str, one: Path, other: Path) -> Difference:
    first, second = read_picture(one).astype(np.int16), read_picture(other).astype(np.int16)
    if first.shape != second.shape:
        return Difference(name, float("inf"), float("inf"))
    apart = np.abs(first - second)
    return Difference(name, float(apart.max()), float(apart.mean()))


def main(
    one: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="a dataset")],
    other: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="the dataset to hold against it")],
    tolerance: Annotated[float, typer.Option(min=0, max=255, help="grey levels that a pixel may differ by")] = 0,
) -> None:
    """Compare two datasets picture by picture; exit code 1: they differ by more than the tolerance, 2: unreadable."""
    try:
        found = compare(one, other)
    except (OSError, PictureError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if not (found.identical or found.differing or found.missing):
        typer.echo(f"neither {one} nor {other} holds a picture; check the paths", err=True)
        raise typer.Exit(2)
    for line in found.missing:
        typer.echo(line)
    for each in found.differing:
        if each.largest > tolerance:
            typer.echo(f"{each.name}: differs by up to {each.largest:g}, {each.mean:.4f} in the mean")
    largest = max((each.largest for each in found.differing), default=0.0)
    typer.echo(
        f"{'agree' if found.agrees(tolerance) else 'DIFFER'}: {found.identical} pictures identical, "
        f"{len(found.differing)} differ by up to {largest:g} grey levels (tolerance {tolerance:g}), "
        f"{len(found.missing)} missing"
    )
    raise typer.Exit(0 if found.agrees(tolerance) else 1)


if __name__ == "__main__":
    typer.run(main)
