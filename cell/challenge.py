"""Known good and known bad parts through the line: it is released only if it tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cell.inspection import LayIn, inspect
from cell.interfaces import ConfigError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.release import record_release
from cell.results import InspectedPart
from cell.setup import Order
from cell.start import Clear, Confirm, refuse_uncleared, refuse_unconfirmed

_MUST_END = {"good": "ok", "defective": "reject"}


@dataclass(frozen=True)
class Challenged:
    """A known part: what is declared about it, and what the line found."""

    declared: str
    found: InspectedPart

    @property
    def wrong(self) -> str | None:
        """What the line said and is not so, or None."""
        verdict, expected = self.found.verdict, _MUST_END[self.declared]
        if verdict.bin == expected:
            return None
        why = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
        return f"{self.found.ticket.part_id} is {self.declared} and came out as {verdict.bin}{why}, not {expected}"


def challenge_parts(order: Order) -> int:
    """Return how many parts the order's production asks for. Raises `ConfigError` where not all are declared."""
    batches = order.production.content.batches
    declared = {batch.label for batch in batches}
    if declared != set(_MUST_END):
        raise ConfigError(
            f"{order.production.path}: a challenge needs good and defective parts, and a label in every batch"
        )
    return sum(batch.count for batch in batches)


def challenge(
    order: Order,
    model: Path,
    records: str,
    *,
    lay_in: LayIn,
    clear: Clear = refuse_uncleared,
    confirm: Confirm = refuse_unconfirmed,
) -> Iterator[Challenged]:
    """Inspect known parts; after the last one the records say whether the line is released.

    Parameters
    ----------
    order : Order
        Each batch of its production declares its parts.
    model, records, clear, confirm
        See `cell.inspection.inspect`.
    lay_in : callable
        Told the number of each part before it is presented: on a line a person lays it in.

    Notes
    -----
    A challenge that does not come to its end changes nothing. A part that is rechecked counts as wrong: a line that
    cannot inspect known parts is not released.
    """
    wrong = []
    part = None
    for number, part in zip(
        order.numbers, inspect(order, model, records, clear=clear, confirm=confirm, lay_in=lay_in), strict=True
    ):
        declared = order.production.content.batch_of(number).label
        assert declared is not None, "challenge_parts() comes first"
        known = Challenged(declared, part)
        if known.wrong is not None:
            wrong.append(known.wrong)
        yield known
    assert part is not None
    with Database(Address.parse(records)) as database:
        record_release(database, part.ticket.part_id, wrong)
