"""Pictures of parts as a dataset, without a verdict."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.cycle import Cycle, Passage
from cell.fingerprint import fingerprint
from cell.interfaces import CellError, ConfigError, Frame, GraspLost, ReflexStop
from cell.line import run_line
from cell.setup import Order, open_cell
from cell.start import Clear, Confirm, refuse_uncleared, refuse_unconfirmed

_PARTS = ("part_id", "lot", "cavity", "shot", "declared", "mass_g")
_IMAGES = ("part_id", "view", "file", "frame", "exposure_us", "timestamp_s", "mask")
_PNG_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]


class PartLost(CellError):
    """A reflex or a lost grasp stopped the line while a part was in it, or no part at all could be inspected whole."""


@dataclass(frozen=True)
class CollectedPart:
    """The rows of one part in the dataset's tables, and what its pictures were taken with."""

    part: tuple[Any, ...]
    images: tuple[tuple[Any, ...], ...]
    made_for: dict[str, Any]
    faulty: bool


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a grey or RGB picture without loss, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".png", stored, _PNG_FAST)
    if not written:
        raise OSError(f"{path}: the picture could not be encoded")
    half = path.with_suffix(".part")
    half.write_bytes(data.tobytes())
    half.replace(path)


def _collect_parts(
    order: Order, out: Path, clear: Clear, confirm: Confirm, lay_in: Callable[[int], None] | None
) -> Iterator[CollectedPart]:
    """Take the pictures of an order's parts; yields when a part is complete."""
    with open_cell(order) as cell:
        made_for = fingerprint(cell)
        cycle = Cycle(cell)
        cycle.prepare(clear=clear, confirm=confirm)
        for number in order.numbers:
            if lay_in is not None:
                lay_in(number)
            ticket = cell.source.next()
            images: list[tuple[Any, ...]] = []

            def keep(
                view: str,
                frame: Frame,
                mask: NDArray[np.bool_] | None,
                part_id: str = ticket.part_id,
                rows: Any = images,
            ) -> None:
                file, mask_file = f"images/{part_id}/{view}.png", ""
                write_png(out / file, frame.image)
                if mask is not None:
                    mask_file = f"masks/{part_id}/{view}.png"
                    write_png(out / mask_file, mask.astype(np.uint8) * 255)
                taken = round(frame.timestamp_s, 4)
                rows.append((part_id, view, file, frame.number, frame.exposure_us, taken, mask_file))

            # Nothing that was not inspected goes where the good parts go.
            passage, _, _ = cycle.run(ticket, on_frame=keep, choose_bin=lambda _: "recheck")
            yield CollectedPart(_part_row(passage), tuple(images), made_for, bool(passage.faults))


def _part_row(passage: Passage) -> tuple[Any, ...]:
    ticket, weighing = passage.ticket, passage.weighing
    mass = "" if weighing is None else f"{weighing.mass_g:.3f}"
    return ticket.part_id, ticket.lot, ticket.cavity, ticket.shot, ticket.label or "", mass


def collect(
    order: Order,
    out: Path,
    *,
    progress: Callable[[int], None],
    clear: Clear = refuse_uncleared,
    confirm: Confirm = refuse_unconfirmed,
    lay_in: Callable[[int], None] | None = None,
) -> int:
    """Write a dataset of an order's parts.

    Parameters
    ----------
    order : Order
        What to collect; where the source knows the truth, it lies in ``out/truth`` afterwards.
    out : Path
        A folder that does not exist yet, or an empty one.
    progress : callable
        Called with the number of parts done.
    clear : callable
        Asked where hand or scale are not empty at the start.
    confirm : callable
        See `cell.cycle.Cycle.prepare`.
    lay_in : callable, optional
        Told each part's number before it is presented, where somebody lays it down; importable where the cell file
        allows several copies.

    Returns
    -------
    int
        The number of parts written.

    Raises
    ------
    ConfigError
        `out` is in use or cannot be written.
    PartLost
        A part slipped or was run against, and the cell stopped; or no part could be inspected whole.
    CellError
        The cell stopped; the parts before that, or before a part that was lost, are kept and make a valid dataset.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not an empty folder; give a new one, a dataset is never overwritten")
    done = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        for collected in run_line(
            replace(order, truth=out / "truth"),
            partial(_collect_parts, out=out, clear=clear, confirm=confirm, lay_in=lay_in),
        ):
            if collected.faulty:
                # The part went to be rechecked; a dataset holds whole parts only.
                continue
            if done == 0:
                _write_head(order, out, collected.made_for)
            _append(out / "images.csv", collected.images)
            _append(out / "parts.csv", [collected.part])
            done += 1
            progress(done)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error}") from error
    except CellError as error:
        lost = isinstance(error, GraspLost | ReflexStop)
        if done == 0 and not lost:
            raise
        kept = f"; {done} whole parts are kept in {out}" if done else ""
        raise (PartLost if lost else CellError)(f"{error}{kept}") from error
    finally:
        _keep_whole_parts(out)
    if done == 0:
        raise PartLost(f"No part could be inspected whole; {out} holds no dataset")
    return done


def _write_head(order: Order, out: Path, made_for: dict[str, Any]) -> None:
    part = order.part.content
    head = {
        "format": "twinspect-dataset",
        "version": 1,
        "views": list(part.view_names),
        "bottom_share": part.bottom_share,
        "picture_width_mm": part.picture_width_mm,
        "made_for": made_for,
        "seed": order.seed,
        "cell": order.cell.content.model_dump(mode="json", by_alias=True),
        "part": part.model_dump(mode="json", by_alias=True),
        "production": order.production.content.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("twinspect", "numpy", "opencv-python-headless", "pybullet")},
    }
    (out / "dataset.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
    _append(out / "images.csv", [_IMAGES])
    _append(out / "parts.csv", [_PARTS])


def _append(path: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _keep_whole_parts(out: Path) -> None:
    """Remove the pictures of parts that were not finished, and the folder where none was."""
    table = out / "parts.csv"
    if not table.exists():
        shutil.rmtree(out, ignore_errors=True)
        return
    with table.open(newline="", encoding="utf-8") as file:
        whole = {row["part_id"] for row in csv.DictReader(file)}
    for folder in (*(out / "images").glob("*"), *(out / "masks").glob("*")):
        if folder.name not in whole:
            shutil.rmtree(folder)
