"""Pieces that come to a cell again and again: made so by the twin, laid down anew by a person on a real cell."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from cell.collecting import PartLost, collect
from cell.commands.console import clearing, confirming, errors
from cell.interfaces import CellError, ConfigError
from cell.schema import Batch, ProductionFile
from cell.setup import Order
from scenarios.made_parts import with_options
from scenarios.material import Lost, Material, Studied, read_material

_ROUNDS = "rounds.txt"


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
        Nobody is there to ask, or said no; or the cell stopped. Pieces that came all their times are kept, and rounds
        before the one that stopped the line; those that were not whole are lost.
    """
    if not sys.stdin.isatty():
        raise CellError("A person lays the parts down again: run the study at a terminal")
    alone = replace(order, cell=replace(order.cell, content=order.cell.content.model_copy(update={"copies": 1})))
    parts, lost = list[Studied](), list[Lost]()
    for done, piece in enumerate(pieces):
        batch = order.production.content.batch_of(piece)
        laid = _LaidPiece(folder / f"{piece:05}", f"Piece {done + 1} of {len(pieces)}", batch, visits)
        if not laid.place.exists():
            laid.inspect(alone)
        read = read_material(laid.place)
        if read.dataset.made_for != made_for:
            raise ConfigError(
                f"{laid.place}: this cell is not what the model was trained with; collect a dataset with it and train "
                "on that"
            )
        defects = tuple({"kind": each.kind, "size_mm": each.size_mm[0]} for each in batch.defects)
        parts += [replace(studied, piece=f"{piece:05}", defects=defects) for studied in read.parts]
        lost += [Lost(f"{piece:05}", "", good=not batch.defects)] * (laid.rounds - len(read.parts))
    return Material(tuple(parts), read.dataset, tuple(lost))


@dataclass
class _LaidPiece:
    """A piece that a person lays down again and again.

    Attributes
    ----------
    place : Path
        A dataset of its whole rounds, and where the line stopped before the last one how many rounds there were.
    said : str
        Which piece it is.
    batch : Batch
        Of the production.
    visits : int
        How often it shall come.
    """

    place: Path
    said: str
    batch: Batch
    visits: int
    _laid: int = 0

    @property
    def rounds(self) -> int:
        """How often it came."""
        stopped = self.place / _ROUNDS
        return int(stopped.read_text(encoding="utf-8")) if stopped.is_file() else self.visits

    def inspect(self, order: Order) -> None:
        """Take its pictures; raises `PartLost` where it stops the line, and then keeps the rounds before."""
        half = self.place.with_name(self.place.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        labelled = self.batch.model_copy(update={"label": "defective" if self.batch.defects else "good"})
        alone = order.production.content.model_copy(update={"batches": (labelled,), "cavities": 1})
        try:
            collect(
                replace(order, production=replace(order.production, content=alone), numbers=range(self.visits)),
                half,
                progress=lambda _: None,
                clear=clearing(None),
                confirm=confirming,
                lay_in=self._ask_for,
            )
        except PartLost as error:
            why = f"{self.said}, round {self._laid} of {self.visits}: {error.__cause__ or error}."
            if not half.exists():
                raise PartLost(
                    f"{why} It was never whole: start again to repeat it, or begin a study of pieces without it"
                ) from error
            (half / _ROUNDS).write_text(f"{self._laid}\n", encoding="utf-8")
            half.replace(self.place)
            raise PartLost(f"{why} Its rounds before are kept; start again to go on with the next piece") from error
        half.replace(self.place)

    def _ask_for(self, number: int) -> None:
        said = ", ".join(f"{each.kind} {each.size_mm[0]:g} mm" for each in self.batch.defects) or "good"
        again = "" if number == 0 else " again, from the bin recheck"
        errors.print(f"{self.said}, {said}: lay it at the feeder{again} ({number + 1} of {self.visits}).")
        if not typer.confirm("Does it lie there?"):
            raise CellError(f"{self.said}: the study was left; the pieces before are kept")
        self._laid = number + 1
