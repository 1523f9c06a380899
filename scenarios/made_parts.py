"""Parts that the twin makes for a study: those of the published study, others of other seeds, the same ones again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client

from cell.collecting import PartLost, collect
from cell.config import Loaded, load_cell, load_part, load_production
from cell.interfaces import CellError
from cell.schema import CellFile, ClassEntry
from cell.setup import Order
from detection.datasets import Dataset, read_dataset
from scenarios.material import Lost, Material, Studied, joined, read_material, split_training
from scenarios.workers import run_jobs

_GOOD_IN_FILE, _DEFECTIVE_IN_FILE = 118, 32  # of assets/production/paper.yaml

_WHY_LOST = "lost.txt"

_SHARD = 6  # parts that are made at a time: little is lost when a study is stopped, and opening the cell costs little


@dataclass(frozen=True)
class Shard:
    """Some parts of an order.

    Attributes
    ----------
    order : Order
        With these parts' numbers.
    out : Path
        A dataset's folder; where a part stopped the line, it holds one for each part instead, or why there is none.
    """

    order: Order
    out: Path

    def run(self) -> None:
        """Collect the parts; what a worker that died left behind is thrown away."""
        half = self.out.with_name(self.out.name + ".part")
        shutil.rmtree(half, ignore_errors=True)
        try:
            collect(self.order, half, progress=lambda _: None)
        except PartLost as error:
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(parents=True)
            if len(self.order.numbers) == 1:
                (half / _WHY_LOST).write_text(f"{error}\n", encoding="utf-8")
            else:
                for number in self.order.numbers:
                    Shard(replace(self.order, numbers=[number]), half / f"{number:05}").run()
        half.replace(self.out)

    def read(self) -> tuple[list[Dataset], dict[int, str]]:
        """Return what was collected, and why parts of some numbers were not."""
        alone = {number: self.out / f"{number:05}" for number in self.order.numbers}
        if len(alone) == 1:
            alone = dict.fromkeys(alone, self.out)
        folders = dict.fromkeys([self.out, *alone.values()])
        datasets = [read_dataset(folder) for folder in folders if (folder / "dataset.json").is_file()]
        whys = {number: folder / _WHY_LOST for number, folder in alone.items()}
        return datasets, {n: why.read_text(encoding="utf-8").strip() for n, why in whys.items() if why.is_file()}


@dataclass(frozen=True)
class PaperParts:
    """Parts of the published study that the twin shall make.

    Attributes
    ----------
    good, defective : int
        So many of the 118 good parts of `assets/production/paper.yaml`, and every so-many-th of the 32 defective ones.
    camera : mapping
        Pixels of the camera's pictures.
    """

    good: int
    defective: int
    camera: Mapping[str, int]


QUICK_PARTS = PaperParts(40, 11, {"width": 912, "height": 684})
# A third of the sensor's width: the part's crop is then a little over 1024 pixels wide.
FULL_PARTS = PaperParts(118, 32, {"width": 1824, "height": 1216})


def paper_material(
    client: Client, parts: PaperParts, *, dataset: Path | None, cell: str, part: str, seed: int, folder: Path
) -> Material:
    """Have the twin make parts of the published study, or read a dataset instead of them.

    Parameters
    ----------
    client : Client
        Of a cluster.
    parts : PaperParts
    dataset : Path or None
        See `read_material`.
    cell, part : str
        Names or paths of the files.
    seed : int
        Of the parts.
    folder : Path
        See `made_by_twin`.
    """
    if dataset is not None:
        return read_material(dataset)
    return made_by_twin(client, paper_order(parts, cell=cell, part=part, seed=seed), folder)


def fresh_material(
    client: Client, parts: PaperParts, *, cell: str, part: str, seeds: Sequence[int], folder: Path
) -> Material:
    """Have the twin make parts as those of the published study are, anew for each of several seeds.

    So many for each seed as `parts` says; each has a folder of its own. See `paper_material`.
    """
    made = [
        made_by_twin(client, paper_order(parts, cell=cell, part=part, seed=seed), folder / f"{seed:04}")
        for seed in seeds
    ]
    studied = tuple(studied for each in made for studied in each.parts)
    return Material(studied, made[0].dataset, tuple(lost for each in made for lost in each.lost))


def paper_order(parts: PaperParts, *, cell: str, part: str, seed: int) -> Order:
    """Order parts of the published study, with the camera's pixels that they say."""
    loaded = with_options(load_cell(cell), "camera", parts.camera)
    step = _DEFECTIVE_IN_FILE / parts.defective
    numbers = [*range(parts.good), *(_GOOD_IN_FILE + int(step * i) for i in range(parts.defective))]
    return Order(loaded, load_part(part), load_production("paper"), numbers, seed)


def with_options(cell: Loaded[CellFile], device: str, options: Mapping[str, Any]) -> Loaded[CellFile]:
    """Return a cell file with other options of one device."""
    entry: ClassEntry = getattr(cell.content, device)
    changed = ClassEntry.model_validate({"class": entry.path, **entry.options, **options})
    return replace(cell, content=cell.content.model_copy(update={device: changed}))


def made_by_twin(client: Client, order: Order, folder: Path) -> Material:
    """Have the twin make the parts of an order, and take their pictures.

    Parameters
    ----------
    client : Client
        Of a cluster.
    order : Order
        Every number is made from the order's seed and itself alone, wherever and in whatever company.
    folder : Path
        Where the pictures go; those that are there from an earlier start are kept.

    Returns
    -------
    Material
        In the order of the numbers.

    Raises
    ------
    CellError
        The cell stopped, or no part could be inspected whole.
    """
    made, lost = _made(client, order, folder)
    if made is None:
        raise _all_lost(folder, lost)
    return replace(made, lost=tuple(lost))


def inspected_under(client: Client, orders: Mapping[str, Order], folder: Path) -> Material:
    """Have the twin make the parts of several orders, each a condition, under which the same pieces are inspected.

    A piece is what has the same number under every condition, divided by the visits that each part makes. Under one
    condition, but not under all, every part may be lost; see `made_by_twin`.
    """
    dataset: Dataset | None = None
    parts: list[Studied] = []
    lost: list[Lost] = []
    for name, order in orders.items():
        made, lost_here = _made(client, order, folder / re.sub(r"[^a-z0-9.]+", "-", name.lower()))
        if made is not None:
            dataset = dataset or made.dataset
            parts += [replace(each, piece=_piece(_number_of(each), order), condition=name) for each in made.parts]
        lost += [replace(each, condition=name) for each in lost_here]
    if dataset is None:
        raise _all_lost(folder, lost)
    return Material(tuple(parts), dataset, tuple(lost))


def _made(client: Client, order: Order, folder: Path) -> tuple[Material | None, list[Lost]]:
    """Return an order's whole parts, None without any, and the others."""
    single = replace(order, cell=replace(order.cell, content=order.cell.content.model_copy(update={"copies": 1})))
    groups = [order.numbers[i : i + _SHARD] for i in range(0, len(order.numbers), _SHARD)]
    shards = [Shard(replace(single, numbers=group), folder / f"{group[0]:05}-{group[-1]:05}") for group in groups]
    run_jobs(client, shards, doing="parts pass the cell")
    read = [shard.read() for shard in shards]
    datasets = [dataset for some, _ in read for dataset in some]
    made = joined(datasets) if datasets else None
    whole = set() if made is None else {_number_of(studied) for studied in made.parts}
    batch_of = order.production.content.batch_of
    whys = {number: why for _, some in read for number, why in some.items()}
    lost = [
        Lost(_piece(number, order), "", not batch_of(number // _visits(order)).defects, whys.get(number, ""))
        for number in order.numbers
        if number not in whole
    ]
    return made, lost


def _all_lost(folder: Path, lost: Sequence[Lost]) -> CellError:
    return CellError(f"{folder}: no part could be inspected whole; {lost[0].why}")


def _number_of(studied: Studied) -> int:
    return int(studied.part.part_id.rsplit("-", 1)[1])


def _visits(order: Order) -> int:
    return int(order.cell.content.source.options.get("visits", 1))


def _piece(number: int, order: Order) -> str:
    return f"{number // _visits(order):05}"


def conditions_material(
    client: Client, orders: Mapping[str, Order], *, dataset: Path | None, folder: Path
) -> tuple[Material, Material]:
    """Return what trains and what is judged: the parts of several orders, see `inspected_under`, or of a dataset."""
    if dataset is not None:
        return split_training(read_material(dataset))
    return split_training(inspected_under(client, orders, folder))
