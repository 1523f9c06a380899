"""Pieces that come to a cell again and again: made so by the twin, laid down anew by a person on a real cell."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from cell.collecting import PartLost, collect
from cell.commands.console import clearing, confirming, errors
from cell.interfaces import CellError, ConfigError
from cell.schema import Batch, Defect, ProductionFile
from cell.setup import Order
from scenarios.made_parts import with_options
from scenarios.material import Lost, Material, Studied, read_material


def pieces_in(production: ProductionFile, *, good: int, defective: int) -> list[int]:
    """Choose so many good and defective pieces of a production file, evenly, or all that it has."""
    count = sum(batch.count for batch in production.batches)
    chosen: list[int] = []
    for wanted, whole in ((good, True), (defective, False)):
        some = [number for number in range(count) if (not production.batch_of(number).defects) == whole]
        chosen += [some[int(i * len(some) / min(wanted, len(some)))] for i in range(min(wanted, len(some)))]
    return chosen


def visits_of(order: Order, pieces: Sequence[int], visits: int) -> Order:
    """Order pieces of the twin, each so many times in a row."""
    numbers = [piece * visits + visit for piece in pieces for visit in range(visits)]
    return replace(order, cell=with_options(order.cell, "source", {"visits": visits}), numbers=numbers)


def collected_by_hand(
    order: Order, pieces: Sequence[int], visits: int, folder: Path, *, made_for: Mapping[str, Any]
) -> Material:
    """Have a person lay pieces down on a real cell, each again and again, and take their pictures.

    Parameters
    ----------
    order : Order
        On the cell, of the production that lists the pieces.
    pieces : sequence of int
        Which of them.
    visits : int
        How often each comes.
    folder : Path
        Each piece has a folder in it.
    made_for : mapping
        What the model was trained with; see `cell.fingerprint`.

    Raises
    ------
    ConfigError
        The cell is not what the model was trained with.
    CellError
        Nobody is there to ask, or said no; or the cell stopped. Pieces that came all their times are kept; rounds that
        were not whole are lost, and counted as such, as long as one was.
    """
    if not sys.stdin.isatty():
        raise CellError("A person lays the parts down again: run the study at a terminal")
    production, parts = order.production.content, list[Studied]()
    alone = replace(order.cell, content=order.cell.content.model_copy(update={"copies": 1}))
    lost: list[Lost] = []
    for done, piece in enumerate(pieces):
        place, batch = folder / f"{piece:05}", production.batch_of(piece)
        if not place.exists():
            half = place.with_name(place.name + ".part")
            shutil.rmtree(half, ignore_errors=True)
            label = "defective" if batch.defects else "good"
            same = {"batches": (batch.model_copy(update={"label": label}),), "cavities": 1}
            one = replace(order.production, content=production.model_copy(update=same))
            try:
                collect(
                    replace(order, cell=alone, production=one, numbers=range(visits)),
                    half,
                    progress=lambda _: None,
                    clear=clearing(None),
                    confirm=confirming,
                    lay_in=partial(_ask_for, piece=done + 1, pieces=len(pieces), batch=batch, visits=visits),
                )
            except PartLost as error:
                raise PartLost(
                    f"Piece {done + 1}: {error}. Start again to repeat this piece; if it cannot be held, take it out "
                    f"of {order.production.path}"
                ) from error
            half.replace(place)
        read = read_material(place)
        if read.dataset.made_for != made_for:
            raise ConfigError(
                f"{place}: this cell is not what the model was trained with; collect a dataset with it and train "
                "on that"
            )
        parts += [
            replace(studied, piece=f"{piece:05}", defects=tuple(_planned(each) for each in batch.defects))
            for studied in read.parts
        ]
        lost += [Lost(f"{piece:05}", "", good=not batch.defects)] * (visits - len(read.parts))
    return Material(tuple(parts), read.dataset, tuple(lost))


def _ask_for(number: int, *, piece: int, pieces: int, batch: Batch, visits: int) -> None:
    said = ", ".join(f"{each.kind} {each.size_mm[0]:g} mm" for each in batch.defects) or "good"
    again = "" if number == 0 else " again, from the bin recheck"
    errors.print(f"Piece {piece} of {pieces}, {said}: lay it at the feeder{again} ({number + 1} of {visits}).")
    if not typer.confirm("Does it lie there?"):
        raise CellError(f"The study was left at piece {piece}; those before are kept")


def _planned(defect: Defect) -> dict[str, Any]:
    return {"kind": defect.kind, "size_mm": defect.size_mm[0]}
