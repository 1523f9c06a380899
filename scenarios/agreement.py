"""How well repeated inspections of the same pieces agree: kappa of verdicts, components of variance of scores."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from detection.errors import DatasetError
from detection.intervals import Estimate, jackknife_variance, rate
from scenarios.frozen import Judged
from scenarios.material import Material

VERDICTS = ("ok", "reject", "recheck")


def fleiss_kappa(verdicts: Sequence[Sequence[str]]) -> Estimate | None:
    """Agreement of repeated verdicts beyond chance.

    Parameters
    ----------
    verdicts : sequence of sequence of str
        Of each piece, two or more; their order does not count.

    Returns
    -------
    Estimate or None
        1: always alike; 0: as pieces that draw their verdicts by lot. The 95 % interval is the jackknife's over pieces,
        with Student's t, within -1 … 1, and all of that where some piece alone makes verdicts differ, or where all
        pieces agree with themselves: they then show no spread. None where all verdicts are the same: there is no
        chance to agree beyond.

    Notes
    -----
    Fleiss, *Measuring nominal scale agreement among many raters*, 1971, eqs. 2 to 7, for pieces that need not have been
    judged equally often. AIAG, *Measurement Systems Analysis*, 4th edition, section III C, calls above .75 good.
    """
    kinds = sorted({verdict for each in verdicts for verdict in each})
    counts = np.array([[each.count(kind) for kind in kinds] for each in map(list, verdicts)], dtype=np.float64)
    value = _kappa(counts)
    if value is None:
        return None
    without = [_kappa(np.delete(counts, i, axis=0)) for i in range(len(counts))]
    spread = jackknife_variance(without, np.zeros(len(counts), dtype=np.bool_))
    if spread is None or spread[0] == 0:
        return Estimate(value, -1.0, 1.0)
    variance, degrees = spread
    reach = float(student_t.ppf(0.975, degrees)) * math.sqrt(variance)
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach))


def _kappa(counts: NDArray[np.float64]) -> float | None:
    judged = counts.sum(axis=1)
    if not len(counts) or not judged.all():
        return None
    alike = float(((counts * (counts - 1)).sum(axis=1) / (judged * (judged - 1))).mean())
    by_chance = float(((counts.sum(axis=0) / judged.sum()) ** 2).sum())
    return None if by_chance >= 1 else (alike - by_chance) / (1 - by_chance)


@dataclass(frozen=True)
class Spread:
    """Components of variance.

    Attributes
    ----------
    within, between : float
        Standard deviations: of the same piece, measured again, and of the pieces' own values.
    """

    within: float
    between: float

    @property
    def share_within(self) -> float | None:
        """Share of the variance that is repeated measurement's; None where nothing varies."""
        total = self.within**2 + self.between**2
        return self.within**2 / total if total else None


def spread_of(groups: Sequence[NDArray[np.float64]]) -> Spread | None:
    """Part the variance of values into that within groups and that between them.

    Parameters
    ----------
    groups : sequence of (m,) float64
        Finite; m ≥ 2.

    Returns
    -------
    Spread or None
        None with fewer than two groups. The variance between is not less than 0.

    Notes
    -----
    One-way random effects by moments, unequal groups: Searle, Casella, McCulloch, *Variance Components*, 1992, 3.6.
    """
    if len(groups) < 2:
        return None
    sizes = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    total = int(sizes.sum())
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (total - len(groups))
    among = float((sizes * (means - (sizes * means).sum() / total) ** 2).sum()) / (len(groups) - 1)
    typical = (total - float((sizes**2).sum()) / total) / (len(groups) - 1)
    return Spread(math.sqrt(within), math.sqrt(max(0.0, (among - within) / typical)))


@dataclass(frozen=True)
class Piece:
    """What happened to one piece of plastic.

    Attributes
    ----------
    name : str
    said : str
        What is wrong with it, or "good".
    good : bool
    beyond : bool
        Whether fewer views than the vote needs show its defect.
    statistics : (m,) float64
        Of its visits, in units of T; infinite for a recheck, also of a part that could not be inspected whole.
    """

    name: str
    said: str
    good: bool
    beyond: bool
    statistics: NDArray[np.float64]

    @property
    def verdicts(self) -> list[str]:
        """Verdict of each visit: one of `VERDICTS`."""
        return ["recheck" if math.isinf(each) else "reject" if each >= 1 else "ok" for each in self.statistics]

    @property
    def agrees(self) -> bool:
        """Whether all visits ended alike."""
        return len(set(self.verdicts)) == 1


def pieces_of(material: Material, judged: Judged, *, k: int) -> list[Piece]:
    """Put the visits together, rechecks of those among them that were not whole; refuses a piece that came once."""
    visits: dict[str, list[int]] = {}
    for i, studied in enumerate(material.parts):
        visits.setdefault(studied.piece, []).append(i)
    lost = Counter(each.piece for each in material.lost)
    once = [name for name in (*visits, *lost) if len(visits.get(name, ())) + lost[name] < 2]
    if once:
        raise DatasetError(
            f"{material.dataset.folder}: piece {once[0]} was inspected once; give each at least two visits (column "
            "piece of truth/parts.csv), or leave it out"
        )
    pieces = []
    for name, some in visits.items():
        first = material.parts[some[0]]
        # Whether the vote can find it is a property of the piece: visits differ by a few pixels that are seen.
        beyond = all(material.parts[i].beyond_vote(k) for i in some)
        statistics = np.append(judged.statistics[some] / judged.threshold, np.full(lost[name], np.inf))
        pieces.append(Piece(name, first.said, first.good, beyond, statistics))
    for name, good in {each.piece: each.good for each in material.lost if each.piece not in visits}.items():
        said = "never whole, good" if good else "never whole, defective"
        pieces.append(Piece(name, said, good, False, np.full(lost[name], np.inf)))
    return pieces


def masses_of(material: Material) -> list[NDArray[np.float64]]:
    """Return the masses in grams of every piece that was weighed more than once, as far as the dataset has them."""
    weighed: dict[str, float] = {}
    for folder in {studied.part.pictures[material.views[0]].parents[2] for studied in material.parts}:
        table = folder / "parts.csv"
        if table.is_file():
            with table.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            weighed |= {row["part_id"]: float(row["mass_g"]) for row in rows if row.get("mass_g")}
    by_piece: dict[str, list[float]] = {}
    for studied in material.parts:
        if studied.part.part_id in weighed:
            by_piece.setdefault(studied.piece, []).append(weighed[studied.part.part_id])
    return [np.array(masses) for masses in by_piece.values() if len(masses) > 1]


@dataclass(frozen=True)
class Agreement:
    """How well a group of pieces agrees with itself.

    Attributes
    ----------
    group : str
    pieces : int
    alike : Estimate
        Share of pieces whose visits all ended alike.
    right : Estimate
        Share of pieces whose visits were all right: good ones ok, defective ones not.
    kappa : Estimate or None
        Fleiss' kappa over the visits; None where every verdict is the same.
    """

    group: str
    pieces: int
    alike: Estimate
    right: Estimate
    kappa: Estimate | None


def agreements_of(pieces: Sequence[Piece]) -> list[Agreement]:
    """Agreement of all pieces, and of the groups that there are."""
    groups = {
        "all": list(pieces),
        "good": [each for each in pieces if each.good],
        "defective": [each for each in pieces if not each.good and not each.beyond],
        "beyond the vote": [each for each in pieces if each.beyond],
    }
    found = []
    for name, some in groups.items():
        alike = rate(sum(each.agrees for each in some), len(some))
        right = rate(sum(all((verdict == "ok") == each.good for verdict in each.verdicts) for each in some), len(some))
        if alike and right:
            found.append(Agreement(name, len(some), alike, right, fleiss_kappa([each.verdicts for each in some])))
    return found


def spreads_of(material: Material, judged: Judged) -> dict[str, Spread]:
    """Spread of each view's scores, and of the statistic, in units of T; visits that were rechecked are left out."""
    pieces = np.array([studied.piece for studied in material.parts])
    columns = dict(zip(material.views, judged.scores.T, strict=True)) | {"part's statistic": judged.statistics}
    spreads = {}
    for name, values in columns.items():
        whole = np.isfinite(values)
        groups = [values[whole & (pieces == piece)] / judged.threshold for piece in dict.fromkeys(pieces.tolist())]
        spread = spread_of([group for group in groups if len(group) > 1])
        if spread is not None:
            spreads[name] = spread
    return spreads
