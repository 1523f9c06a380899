"""`twinspect train`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from cell.commands.console import out as screen
from cell.commands.console import progress, require_writable
from cell.config import check, load_detection
from detection import Inspector, ModelConfig, read_dataset, train
from detection.description import DESCRIPTION_FILE


def run_train(
    dataset: Path,
    out: Path,
    *,
    config: str,
    weights: Path | None,
    train_parts: int | None,
    keep_state: bool,
    model: Mapping[str, Any],
) -> Inspector:
    """Train, save and say what was made."""
    start = perf_counter()
    settings = load_detection(config).content
    model_config = check(model, ModelConfig, "the options of train")
    if "n_features" in model and settings.distance.covariance == "layer":
        screen.print(f"--features changes nothing: configuration {config} takes all channels of one layer")
    require_writable(out, holds=DESCRIPTION_FILE)
    pictures = read_dataset(dataset)
    with progress("training", None) as report:
        inspector = train(
            pictures,
            out,
            config=settings,
            model=model_config,
            weights=weights,
            train_parts=train_parts,
            keep_state=keep_state,
            progress=lambda doing, done, total: report(done, doing, total),
        )
    info = inspector.info
    uses = Counter(part.use for part in info.trained_with)
    screen.print(
        f"{len(inspector.views)} models from {uses['training']} good parts in {perf_counter() - start:.0f} s, "
        f"threshold {inspector.threshold:.2f}: {out}"
    )
    if uses["trimmed"]:
        names = ", ".join(part.part_id for part in info.trained_with if part.use == "trimmed")
        screen.print(f"{uses['trimmed']} more left out as the most unlike the others: {names}")
    if uses["calibration"]:
        screen.print(f"{uses['calibration']} more were held back to set the threshold")
    if uses["defective"]:
        screen.print(f"{uses['defective']} that are declared defective set the threshold")
    if info.guarantee is not None:
        screen.print(f"guaranteed: {info.guarantee}")
    elif inspector.threshold == 0:
        screen.print("two parts are too few to hold one out: every part will be rejected; train with more")
    else:
        screen.print(f"the threshold is an estimate, by {info.config.threshold.method}: nothing is guaranteed")
    return inspector
