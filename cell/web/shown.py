"""An inspection as its page shows it: findings in words, views with what was found on them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from cell.records.charts import mass_limits
from cell.records.marks import Marks
from cell.records.queries import Inspection
from cell.records.schema import PictureRecord, ViewRecord
from cell.schema import MassLimits
from cell.web.pictures import frame_size, heatmap_url
from cell.web.site import Site
from cell.web.texts import Texts
from detection.decisions import reaches


@dataclass(frozen=True)
class ShownView:
    """A view with what was found on it.

    Attributes
    ----------
    place : int
        Counts the pictures as taken.
    name : str
    score : float or None
    over : bool
        Whether it reached the threshold.
    source : str
        URL of the picture; empty where it was removed.
    width, height : int
        Of the frame.
    heatmap : str
        Data URL; empty where none is kept.
    side : int
        Of the heatmap.
    transform : str
        From the heatmap to the frame, for SVG.
    contours : tuple of str
        Points of polygons in the frame, for SVG.
    """

    place: int
    name: str
    score: float | None
    over: bool
    source: str
    width: int
    height: int
    heatmap: str
    side: int
    transform: str
    contours: tuple[str, ...]


def findings(inspection: Inspection, limits: MassLimits | None, texts: Texts) -> list[str]:
    """Return in the reader's language why a part was rejected; the recorded reasons where it could not be inspected."""
    verdict = inspection.verdict
    if verdict is None or inspection.stands == "ok":
        return []
    if inspection.stands == "recheck":
        return list(verdict.reasons)
    found = []
    over = [view for view in verdict.views if is_over(view, verdict.threshold)]
    if over:
        found.append(texts("over", count=len(over), total=len(verdict.views)))
    mass_g = verdict.mass_g
    if limits is not None and mass_g is not None and not limits.hold(mass_g):
        found.append(
            texts(
                "off mass",
                mass=texts.number(mass_g, 3),
                nominal=texts.number(limits.nominal_g, 2),
                tolerance=texts.number(limits.tolerance_g, 2),
            )
        )
    return found


def limits_of(session: Session, inspection: Inspection) -> MassLimits | None:
    """Return the limits of the mass that a part was judged by."""
    return mass_limits(session, inspection.run)


def is_over(view: ViewRecord, threshold: float | None) -> bool:
    """Whether a view's score reached the threshold."""
    return view.score is not None and threshold is not None and reaches(view.score, threshold)


def shown_views(
    site: Site, session: Session, inspection: Inspection, *, whole: bool = False, heatmaps: bool = True
) -> list[ShownView]:
    """Return the views of an inspection as they are drawn.

    Parameters
    ----------
    site : Site
    session : Session
    inspection : Inspection
    whole : bool
        Full pictures; else small ones.
    heatmaps : bool
        Whether they are wanted beside the outlines.
    """
    if inspection.verdict is None:
        return []
    marks = site.marks.read(inspection.part.entry)
    return [
        _shown(site, session, view, inspection.verdict.threshold, marks, whole=whole, heatmaps=heatmaps)
        for view in inspection.verdict.views
    ]


def worst_first(views: list[ShownView]) -> list[ShownView]:
    """Return views, the highest score first."""
    return sorted(views, key=lambda view: -(view.score or 0.0))


def _shown(
    site: Site,
    session: Session,
    view: ViewRecord,
    threshold: float | None,
    marks: Marks | None,
    *,
    whole: bool,
    heatmaps: bool,
) -> ShownView:
    size = frame_size(site.thumbnails.file(view.picture))
    removed = session.get_one(PictureRecord, view.picture).removed is not None
    source = "" if removed or size is None else f"/pictures/{view.picture}.{'png' if whole else 'jpg'}"
    width, height = size or (4, 3)
    found = marks.views.get(view.view) if marks is not None else None
    heatmap, side, transform = "", 0, ""
    contours: tuple[str, ...] = ()
    if found is not None:
        if heatmaps:
            heatmap, side = heatmap_url(found), len(found.grey())
        (a, c, e), (b, d, f) = found.matrix
        # SVG counts from the outer corner of the first pixel, whose centre is at ½; there as here.
        transform = f"translate(0.5 0.5) matrix({a:.6g} {b:.6g} {c:.6g} {d:.6g} {e:.6g} {f:.6g})"
        contours = tuple(" ".join(f"{x + 0.5:g},{y + 0.5:g}" for x, y in contour) for contour in found.contours)
    return ShownView(
        place=view.place,
        name=view.view,
        score=view.score,
        over=is_over(view, threshold),
        source=source,
        width=width,
        height=height,
        heatmap=heatmap,
        side=side,
        transform=transform,
        contours=contours,
    )
