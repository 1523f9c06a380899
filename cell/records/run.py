"""What a line is run with, as it goes on record."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from sqlalchemy.orm import Session

from cell.fingerprint import fingerprint
from cell.records.chain import canonical, put_content
from cell.records.schema import RunRecord
from cell.setup import Cell, Order
from detection import DetectionError

CHALLENGE = " (challenge)"
"""What the cell of a run with known parts is called in addition: they belong to none of its control charts."""

_PACKAGES = ("twinspect", "torch", "numpy", "opencv-python-headless")


def description_of(model: Path) -> str:
    """Return a model's `inspector.json`, byte by byte: it holds the hash of every other file of the model."""
    path = model / "inspector.json"
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DetectionError(f"{path}: cannot be read ({error}); copy or train the model again") from error


@dataclass(frozen=True)
class Run:
    """The texts that say how parts are inspected; each is stored once, under its hash.

    Attributes
    ----------
    cell, model : str
        Where the cell file and the model lay.
    cell_file, part_file, production_file : str
        The resolved files as JSON.
    inspector : str
        The model's `inspector.json`, byte by byte: it holds the hash of every other file of the model.
    made_for : str
        What the pictures depend on (`cell.fingerprint`), as JSON.
    settings : str
        Seed, versions and machine, as JSON.
    """

    cell: str
    model: str
    cell_file: str
    part_file: str
    production_file: str
    inspector: str
    made_for: str
    settings: str

    @classmethod
    def of(cls, order: Order, cell: Cell, model: Path) -> Run:
        """Describe a run of a connected cell."""
        settings = {
            "seed": order.seed,
            "versions": {name: version(name) for name in _PACKAGES},
            "machine": platform.node(),
        }
        cell_file, part_file, production_file = (
            canonical(loaded.content.model_dump(mode="json", by_alias=True))
            for loaded in (order.cell, order.part, order.production)
        )
        return cls(
            cell=str(order.cell.path),
            model=str(model),
            cell_file=cell_file,
            part_file=part_file,
            production_file=production_file,
            inspector=description_of(model),
            made_for=canonical(fingerprint(cell)),
            settings=canonical(settings),
        )

    def as_challenge(self) -> Run:
        """Return the same run with known parts."""
        return replace(self, cell=self.cell + CHALLENGE)

    def record(self, session: Session) -> RunRecord:
        """Store the texts and return the row that names them."""
        return RunRecord(
            cell=self.cell,
            model=self.model,
            cell_hash=put_content(session, self.cell_file),
            part_hash=put_content(session, self.part_file),
            production_hash=put_content(session, self.production_file),
            model_hash=put_content(session, self.inspector),
            made_for_hash=put_content(session, self.made_for),
            settings_hash=put_content(session, self.settings),
        )
