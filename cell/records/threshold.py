"""What another threshold would have made of recorded parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cell.records.charts import mass_limits, newest_run
from cell.records.queries import latest_decisions
from cell.records.schema import ContentRecord, EndingRecord, InspectionRecord, RunRecord, VerdictRecord, ViewRecord
from detection.decisions import part_statistic, reaches


@dataclass(frozen=True)
class ScoredPart:
    """A part that was inspected whole.

    Attributes
    ----------
    inspection : int
    statistic : float
        Its k-th largest view score.
    by_mass : bool
        Whether its mass makes it a reject, whatever its scores.
    confirmed : str or None
        The verdict of the person who decided last.
    """

    inspection: int
    statistic: float
    by_mass: bool
    confirmed: str | None


@dataclass(frozen=True)
class ScoredParts:
    """The newest parts of one model, and the threshold and the vote by which they were judged."""

    threshold: float
    k: int
    parts: tuple[ScoredPart, ...]


@dataclass(frozen=True)
class WhatIf:
    """What a threshold makes of parts.

    Attributes
    ----------
    ok, reject : int
    good_rejected, good, defective_passed, defective : int
        Of the parts that people confirmed as ok, or as reject.
    """

    ok: int
    reject: int
    good_rejected: int
    good: int
    defective_passed: int
    defective: int


def newest_scored(session: Session, *, count: int) -> ScoredParts | None:
    """Return the newest parts that the newest run's model inspected whole; None where there is no such model."""
    run = newest_run(session)
    if run is None:
        return None
    try:
        model = json.loads(session.get_one(ContentRecord, run.model_hash).text)
        k, views, threshold = int(model["config"]["vote"]["k"]), len(model["frame_shapes"]), float(model["threshold"])
    except (KeyError, ValueError, TypeError):
        return None
    runs = select(RunRecord.entry).where(RunRecord.model_hash == run.model_hash)
    found = session.execute(
        select(InspectionRecord.entry, VerdictRecord.entry, VerdictRecord.mass_g)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        # Not by the index of runs, nearly all of which are one: the newest are found by walking from the end.
        .where(func.coalesce(InspectionRecord.run, 0).in_(runs), VerdictRecord.verdict.in_(("ok", "reject")))
        .order_by(InspectionRecord.entry.desc())
        .limit(count)
    ).all()
    scores: dict[int, list[float]] = {}
    wanted = select(ViewRecord.verdict, ViewRecord.score).where(ViewRecord.verdict.in_([row[1] for row in found]))
    for verdict, score in session.execute(wanted):
        if score is not None:
            scores.setdefault(verdict, []).append(score)
    decided = latest_decisions(session, [row[0] for row in found])
    limits = mass_limits(session, run)
    parts = []
    for inspection, verdict, mass_g in found:
        if len(scores.get(verdict, ())) != views:
            continue
        statistic = part_statistic(scores[verdict], k=k)
        decision = decided.get(inspection)
        by_mass = limits is not None and mass_g is not None and not limits.hold(mass_g)
        parts.append(ScoredPart(inspection, statistic, by_mass, decision.decided if decision else None))
    return ScoredParts(threshold, k, tuple(parts))


def what_if(parts: Sequence[ScoredPart], threshold: float) -> WhatIf:
    """Return what a threshold makes of parts; the mass judges as it did."""
    rejected = [part.by_mass or reaches(part.statistic, threshold) for part in parts]
    good = [r for part, r in zip(parts, rejected, strict=True) if part.confirmed == "ok"]
    defective = [r for part, r in zip(parts, rejected, strict=True) if part.confirmed == "reject"]
    return WhatIf(
        ok=rejected.count(False),
        reject=rejected.count(True),
        good_rejected=good.count(True),
        good=len(good),
        defective_passed=defective.count(False),
        defective=len(defective),
    )
