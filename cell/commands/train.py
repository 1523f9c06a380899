"""`twinspect train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from cell.commands.console import out as screen
from cell.commands.console import progress, require_writable
from cell.config import check, load_detection
from detection import Inspector, ModelConfig, read_dataset
from detection.description import DESCRIPTION_FILE


def run_train(
    dataset: Path,
    out: Path,
    *,
    config: str,
    weights: Path | None,
    train_parts: int | None,
    model: Mapping[str, Any],
) -> Inspector:
    """Train, save and say what was made."""
    start = perf_counter()
    settings = load_detection(config).content
    model_config = check(model, ModelConfig, "the options of train")
    require_writable(out, holds=DESCRIPTION_FILE)
    pictures = read_dataset(dataset)
    with progress("training", None) as report:
        inspector = Inspector.train(
            pictures,
            config=settings,
            model=model_config,
            weights=weights,
            train_parts=train_parts,
            progress=lambda doing, done, total: report(done, doing, total),
        )
    inspector.save(out)
    parts = len(inspector.info.trained_with)
    screen.print(
        f"{len(inspector.views)} models from {parts} good parts in {perf_counter() - start:.0f} s, "
        f"threshold {inspector.threshold:.2f}: {out}"
    )
    if inspector.threshold == 0:
        screen.print("two parts are too few to hold one out: every part will be rejected; train with more")
    return inspector
