"""The tables of the records.

Every row of a table with a column `entry` is one link of the hash chain in `entries` (see `cell.records.chain`):
rows are added and never changed. `contents` and `pictures` are named by the hash of what they hold.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, Float, ForeignKey, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

REVISION = "0004"
"""The newest of `migrations/versions`: what this version of the program reads and writes."""

HAND_AND_SCALE_EMPTY = "hand and scale are empty"
"""What is decided by who cleared the cell."""

_HASH = String(64)
_NAME = String(200)


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {str: Text, float: Float(53), list[str]: JSON}


class Entry(Table):
    """One link of the chain: what was added, when, and the hash over it and over the link before."""

    __tablename__ = "entries"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32), doc="UTC, ISO 8601 with microseconds")
    kind: Mapped[str] = mapped_column(String(32))
    previous: Mapped[str] = mapped_column(_HASH)
    hash: Mapped[str] = mapped_column(_HASH, index=True)


class ContentRecord(Table):
    """A text by its SHA-256: a resolved file, a model's description, settings."""

    __tablename__ = "contents"

    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    text: Mapped[str]


class PictureRecord(Table):
    """A file in the folder of the pictures by its SHA-256; `removed` is the removal that took the file away."""

    __tablename__ = "pictures"

    hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    bytes: Mapped[int]
    removed: Mapped[int | None] = mapped_column(ForeignKey("removals.entry"))


class Link(Table):
    """Base of what the chain links."""

    __abstract__ = True

    entry: Mapped[int] = mapped_column(ForeignKey("entries.number"), primary_key=True, autoincrement=False)

    def content(self) -> dict[str, Any]:
        """Return what the chain's hash covers, as JSON values."""
        return {
            column.key: float(value) if value is not None and isinstance(column.type, Float) else value
            for column in self.__table__.columns
            if column.key != "entry"
            for value in [getattr(self, column.key)]
        }


class RunRecord(Link):
    """A line that was started: with what, by the hashes of `contents`."""

    __tablename__ = "runs"

    cell: Mapped[str] = mapped_column(doc="path of the cell file")
    model: Mapped[str] = mapped_column(doc="path of the model's folder")
    cell_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"))
    part_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"))
    production_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"))
    model_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"), doc="of inspector.json, which hashes the rest")
    made_for_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"), doc="what the pictures depend on")
    settings_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"), doc="seed, versions, machine")


class InspectionRecord(Link):
    """A part that the source presented; committed before anything moves."""

    __tablename__ = "inspections"

    run: Mapped[int] = mapped_column(ForeignKey("runs.entry"), index=True)
    part_id: Mapped[str] = mapped_column(_NAME, index=True)
    lot: Mapped[str] = mapped_column(_NAME, index=True)
    cavity: Mapped[int]
    shot: Mapped[int]
    declared: Mapped[str | None]
    audits: Mapped[str | None] = mapped_column(_HASH, doc="hash of the inspection that is played back")


class VerdictRecord(Link):
    """What the inspection found; committed before the hand opens over the bin."""

    __tablename__ = "verdicts"

    inspection: Mapped[int] = mapped_column(ForeignKey("inspections.entry"), unique=True)
    verdict: Mapped[str]
    reasons: Mapped[list[str]]
    threshold: Mapped[float | None]
    mass_g: Mapped[float | None]
    mass_stable: Mapped[bool | None]
    views: Mapped[list[ViewRecord]] = relationship(order_by="ViewRecord.place")

    def content(self) -> dict[str, Any]:
        """Return the columns and the views."""
        return {**super().content(), "views": [view.content() for view in self.views]}


class ViewRecord(Table):
    """One picture of a part."""

    __tablename__ = "views"

    verdict: Mapped[int] = mapped_column(ForeignKey("verdicts.entry"), primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, doc="counts the pictures as taken")
    view: Mapped[str] = mapped_column(_NAME)
    serial: Mapped[str]
    frame: Mapped[int]
    taken_s: Mapped[float] = mapped_column(doc="the cell clock's time")
    exposure_us: Mapped[float]
    retries: Mapped[int | None] = mapped_column(doc="incomplete pictures before it; None: before schema 0002")
    score: Mapped[float | None]
    picture: Mapped[str] = mapped_column(ForeignKey("pictures.hash"), index=True)
    mask: Mapped[str | None] = mapped_column(ForeignKey("pictures.hash"), index=True)

    def content(self) -> dict[str, Any]:
        """Return the columns but the key of the verdict; retries only where they are known, as hashes were before."""
        return {
            column.key: float(value) if value is not None and isinstance(column.type, Float) else value
            for column in self.__table__.columns
            for value in [getattr(self, column.key)]
            if column.key != "verdict" and not (column.key == "retries" and value is None)
        }


class EndingRecord(Link):
    """How the cycle ended: the bin that the part was let go over, or the fault because of which nobody knows."""

    __tablename__ = "endings"

    inspection: Mapped[int] = mapped_column(ForeignKey("inspections.entry"), unique=True)
    verdict: Mapped[str] = mapped_column(index=True, doc="as it stands in the end")
    bin: Mapped[str | None]
    cycle_s: Mapped[float | None]
    fault: Mapped[str | None]
    marks: Mapped[str | None] = mapped_column(_HASH, doc="of the file of marks (see `cell.records.marks`)")
    in_time: Mapped[list[list[Any]] | None] = mapped_column(
        JSON(none_as_null=True),
        doc="[where to, share of commands that the arm got in time] of each motion; None where the arm does not say",
    )

    def content(self) -> dict[str, Any]:
        """Return the columns; those that were added later only where they have a value, as hashes were before."""
        added = ("marks", "in_time")
        return {key: value for key, value in super().content().items() if key not in added or value is not None}


class FaultRecord(Link):
    """Something that went wrong on the line."""

    __tablename__ = "faults"

    run: Mapped[int] = mapped_column(ForeignKey("runs.entry"), index=True)
    inspection: Mapped[int | None] = mapped_column(ForeignKey("inspections.entry"), index=True)
    message: Mapped[str]


class DecisionRecord(Link):
    """What a person decided, about a part or about the cell."""

    __tablename__ = "decisions"

    inspection: Mapped[int | None] = mapped_column(ForeignKey("inspections.entry"), index=True)
    subject: Mapped[str] = mapped_column(doc="verdict, light, camera, or cleared: hand and scale are empty")
    decided: Mapped[str]
    who: Mapped[str]
    why: Mapped[str]


class AlarmRecord(Link):
    """A control chart left its limits."""

    __tablename__ = "alarms"

    inspection: Mapped[int] = mapped_column(ForeignKey("inspections.entry"), index=True)
    chart: Mapped[str]
    message: Mapped[str]


class ReleaseRecord(Link):
    """What came of a challenge: whether what its run names is released, and which verdicts were wrong."""

    __tablename__ = "releases"

    run: Mapped[int] = mapped_column(ForeignKey("runs.entry"), index=True)
    released: Mapped[bool]
    wrong: Mapped[list[str]]


class CandidateRecord(Link):
    """A model that was extended by parts which people confirmed, and the known parts that it has to tell apart."""

    __tablename__ = "candidates"

    model: Mapped[str] = mapped_column(doc="path of its folder")
    model_hash: Mapped[str] = mapped_column(
        ForeignKey("contents.hash"), index=True, doc="of inspector.json, which names the parts and who confirmed them"
    )
    parent_hash: Mapped[str] = mapped_column(ForeignKey("contents.hash"), doc="inspector.json of the model before")
    challenge: Mapped[int] = mapped_column(ForeignKey("releases.entry"), doc="whose parts it is challenged with")
    made_by: Mapped[str]


class ApprovalRecord(Link):
    """A second person released a candidate that had passed its challenge."""

    __tablename__ = "approvals"

    candidate: Mapped[int] = mapped_column(ForeignKey("candidates.entry"), unique=True)
    passed: Mapped[int] = mapped_column(ForeignKey("releases.entry"), doc="what came of its challenge")
    who: Mapped[str]
    why: Mapped[str]


class RemovalRecord(Link):
    """Pictures that a rule let go."""

    __tablename__ = "removals"

    rule: Mapped[str] = mapped_column(doc="JSON")
    pictures: Mapped[list[RemovedPicture]] = relationship(order_by="RemovedPicture.hash")

    def content(self) -> dict[str, Any]:
        """Return the rule and the hashes of the pictures."""
        return {**super().content(), "pictures": sorted(picture.hash for picture in self.pictures)}


class RemovedPicture(Table):
    """A picture of a removal."""

    __tablename__ = "removed_pictures"

    removal: Mapped[int] = mapped_column(ForeignKey("removals.entry"), primary_key=True, autoincrement=False)
    hash: Mapped[str] = mapped_column(ForeignKey("pictures.hash"), primary_key=True)


LINKS: dict[str, type[Link]] = {
    table.__tablename__: table
    for table in (
        RunRecord,
        InspectionRecord,
        VerdictRecord,
        EndingRecord,
        FaultRecord,
        DecisionRecord,
        AlarmRecord,
        ReleaseRecord,
        CandidateRecord,
        ApprovalRecord,
        RemovalRecord,
    )
}
"""What the chain links, by the `kind` of its entry."""
