"""From scores, mass and faults to the bin: fail safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cell.cycle import Bin
from cell.interfaces import Weighing
from cell.schema import MassLimits

if TYPE_CHECKING:
    from detection import Decision


@dataclass(frozen=True)
class Verdict:
    """Which bin a part belongs in, and why, in sentences; an ok part needs no reason."""

    bin: Bin
    reasons: tuple[str, ...]


def judge(
    weighing: Weighing | None,
    faults: tuple[str, ...],
    views: tuple[str, ...],
    scores: Mapping[str, float],
    decision: Decision | None,
    mass: MassLimits,
) -> Verdict:
    """Say into which bin a part goes.

    ``ok`` needs every view scored, a stable mass within its limits and no fault. What was found on a part that
    was inspected whole makes it ``reject``; an inspection that was not whole makes it ``recheck``.

    Parameters
    ----------
    weighing : Weighing or None
        None when the part was not weighed.
    faults : tuple of str
        What went wrong.
    views : tuple of str
        The views of the part file, which make the part complete.
    scores : mapping of str to float
        By view, as far as pictures were scored.
    decision : Decision or None
        The vote; None where it could not be held.
    mass : MassLimits
        Of a good part.
    """
    doubts = list(faults)
    missing = [view for view in views if view not in scores]
    if missing:
        doubts.append(f"no score of view {', '.join(missing)}")
    if weighing is None or not weighing.stable:
        doubts.append("no stable mass")
    if doubts or decision is None or weighing is None:
        return Verdict("recheck", tuple(doubts) or ("no vote",))
    findings = []
    if decision.anomalous:
        over = decision.views_over
        reach = "1 view reaches" if len(over) == 1 else f"{len(over)} views reach"
        findings.append(f"{reach} the threshold {decision.threshold:.2f}: {', '.join(over)}")
    if not mass.hold(weighing.mass_g):
        findings.append(f"its mass {weighing.mass_g:.3f} g is not {mass.nominal_g} ± {mass.tolerance_g} g")
    return Verdict("reject" if findings else "ok", tuple(findings))
