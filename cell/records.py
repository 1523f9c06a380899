"""What the line decided, part by part, in a database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from sqlalchemy import JSON, Engine, ForeignKey, create_engine, event, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from cell.interfaces import CellError, ConfigError
from cell.results import InspectedPart


class _Table(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {list[str]: JSON}


class PartRecord(_Table):
    """One inspection of one part."""

    __tablename__ = "parts"

    id: Mapped[int] = mapped_column(primary_key=True)
    inspected_at: Mapped[datetime]
    part_id: Mapped[str] = mapped_column(index=True)
    lot: Mapped[str]
    cavity: Mapped[int]
    shot: Mapped[int]
    declared: Mapped[str | None]
    verdict: Mapped[str]
    reasons: Mapped[list[str]]
    threshold: Mapped[float]
    mass_g: Mapped[float | None]
    cycle_s: Mapped[float | None]
    cell: Mapped[str]
    model: Mapped[str]
    views: Mapped[list[ViewRecord]] = relationship(cascade="all, delete-orphan", order_by="ViewRecord.id")


class ViewRecord(_Table):
    """The score of one picture."""

    __tablename__ = "views"

    id: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(ForeignKey("parts.id"), index=True)
    view: Mapped[str]
    frame: Mapped[int]
    score: Mapped[float]


class Records:
    """A database of inspections; a context manager.

    Parameters
    ----------
    url : str
        SQLAlchemy's, e.g. ``sqlite:///records.sqlite``.
    cell, model : str
        What the parts are inspected with.
    """

    def __init__(self, url: str, *, cell: str, model: str) -> None:
        self._url = url
        self._cell = cell
        self._model = model

    def __enter__(self) -> Self:
        try:
            url = make_url(self._url)
        except ArgumentError as error:
            raise ConfigError(
                f"--records {self._url}: is no database URL; write e.g. sqlite:///records.sqlite"
            ) from error
        if url.get_backend_name() == "sqlite" and url.database:
            self._attempt(lambda: Path(str(url.database)).resolve().parent.mkdir(parents=True, exist_ok=True))
        self._engine: Engine = self._attempt(lambda: create_engine(url))
        if url.get_backend_name() == "sqlite":
            event.listen(self._engine, "connect", _durable)
        self._attempt(lambda: _Table.metadata.create_all(self._engine))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    def add(self, part: InspectedPart) -> int:
        """Commit a part and return the number of its row.

        Raises
        ------
        CellError
            That failed; nothing of the part is stored, and it must not go into a bin.
        """
        row = PartRecord(
            inspected_at=datetime.now(UTC),
            part_id=part.ticket.part_id,
            lot=part.ticket.lot,
            cavity=part.ticket.cavity,
            shot=part.ticket.shot,
            declared=part.ticket.label,
            verdict=part.verdict.bin,
            reasons=list(part.verdict.reasons),
            threshold=part.threshold,
            mass_g=part.weighing.mass_g if part.weighing else None,
            cycle_s=part.cycle_s,
            cell=self._cell,
            model=self._model,
            views=[ViewRecord(view=view, frame=part.frames[view], score=score) for view, score in part.scores.items()],
        )

        def commit() -> int:
            with Session(self._engine) as session:
                session.add(row)
                session.commit()
                return row.id

        number: int = self._attempt(commit)
        return number

    def finish(self, number: int, part: InspectedPart) -> None:
        """Complete a row with how the cycle ended: its time, or the verdict that a fault on the way to the bin left."""
        ending = {"cycle_s": part.cycle_s, "verdict": part.verdict.bin, "reasons": list(part.verdict.reasons)}

        def commit() -> None:
            with Session(self._engine) as session:
                session.execute(update(PartRecord).where(PartRecord.id == number).values(**ending))
                session.commit()

        self._attempt(commit)

    def _attempt(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except (SQLAlchemyError, OSError, ModuleNotFoundError) as error:
            first_line = str(error).splitlines()[0]
            raise CellError(
                f"The records at {shown(self._url)} cannot be used: {first_line}; "
                "no part is inspected that cannot be recorded"
            ) from error


def shown(url: str) -> str:
    """Return a database URL as it may be printed: without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _durable(connection: Any, record: Any) -> None:
    """SQLite: a committed part survives a loss of power."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
