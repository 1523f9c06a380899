"""Time, memory and image AUROC of PaDiM here and in anomalib, side by side in one run.

anomalib is no dependency: install it into an environment of its own, and give that environment's Python:

    python -m venv peer && peer/bin/pip install 'anomalib==2.7.*'
    .venv/bin/python benchmarks/compare_anomalib.py DATASET --anomalib peer/bin/python --out compare.json

`DATASET` is a folder in the MVTec layout. Both sides get the same resized pictures and the same ResNet18 weights: those
of `--weights`, else random ones from a seed, which do for time and memory but make the AUROC worthless. Each side runs
in a process of its own; pictures are scored in turn, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROUNDS = {256: 12, 512: 6, 1024: 3}
_BURST = 4  # pictures in a row, as a cell scores its views
SIDES = ("anomalib", "float32", "bfloat16")


def main() -> None:
    """Prepare pictures and weights, run all sides, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--anomalib", type=Path, required=True, help="the Python that has anomalib")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the figures")
    parser.add_argument("--weights", type=Path, help="torchvision's ResNet18 state dict")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 512, 1024], choices=ROUNDS)
    parser.add_argument("--train", type=int, default=12, help="pictures to fit (anomalib keeps all their features)")
    options = parser.parse_args()
    figures = []
    # Compiles the kernels where that was not done yet: it must not count as what importing takes.
    subprocess.run([sys.executable, "-c", "from detection import PaDiM"], check=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights = _write_weights(folder, options.weights)
        for resolution in options.resolutions:
            labels = _write_pictures(folder, options.dataset, resolution, options.train)
            figures += _compare(folder, options.anomalib, resolution, weights, labels)
    for figure in figures:
        figure["weights"] = str(options.weights or "random")
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    _print_table(figures)


def _write_weights(folder: Path, given: Path | None) -> Path:
    import torch
    import torchvision
    from safetensors.torch import save_file

    from detection.backbones import read_state_dict

    torch.manual_seed(0)
    state = read_state_dict(given) if given else torchvision.models.resnet18(weights=None).state_dict()
    path = folder / "resnet18.safetensors"
    save_file(dict(state), path)
    return path


def _write_pictures(folder: Path, dataset: Path, resolution: int, count: int) -> list[bool]:
    """Resize training and test pictures into two arrays, and return which of the test pictures are anomalous."""
    from detection import read_dataset, read_picture
    from detection.config import PreprocessConfig
    from detection.preprocess import prepare

    parts = read_dataset(dataset).parts
    train = [part for part in parts if part.split == "train"][:count]
    test = [part for part in parts if part.split == "test"]

    def squares(some: list[Any]) -> np.ndarray:
        whole = PreprocessConfig(crop="none")
        paths = [path for part in some for path in part.pictures.values()]
        return np.stack([prepare(read_picture(path), resolution=resolution, config=whole).image for path in paths])

    np.save(folder / "train.npy", squares(train))
    np.save(folder / "test.npy", squares(test))
    return [part.label == "defective" for part in test]


def _compare(folder: Path, peer: Path, resolution: int, weights: Path, labels: list[bool]) -> list[dict[str, Any]]:
    from detection.metrics import roc_auc

    pythons = {side: str(peer) if side == "anomalib" else sys.executable for side in SIDES}
    commands = {side: [pythons[side], __file__, side, str(folder), str(resolution), str(weights)] for side in SIDES}
    figures = {}
    for side in SIDES:
        done = subprocess.run([*commands[side], "fit"], check=True, capture_output=True, text=True)
        figures[side] = {"side": side, "resolution": resolution, **json.loads(done.stdout.splitlines()[-1])}
    scorers = {
        side: subprocess.Popen([*commands[side], "score"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in SIDES
    }
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(1 + ROUNDS[resolution]):
        for side in SIDES:
            for again in range(_BURST):
                answer = _ask(scorers[side], str((turn * _BURST + again) % len(labels)))
                if turn and again:  # the first picture meets caches and cores that the side before has used
                    seconds[side].append(answer["seconds"])
    for side in SIDES:
        figures[side]["score_seconds"] = median(seconds[side])
        figures[side]["score_peak_gb"] = _ask(scorers[side], "memory")["peak_gb"]
    for side in SIDES:  # last, so that it stands in nobody's way
        scores = [_ask(scorers[side], str(i))["score"] for i in range(len(labels))]
        figures[side]["image_auroc"] = roc_auc(scores, labels)
        scorers[side].communicate()
    return list(figures.values())


def _ask(process: subprocess.Popen[str], question: str) -> dict[str, Any]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(question + "\n")
    process.stdin.flush()
    while True:  # libraries may print, too
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"a process ended without an answer (exit code {process.wait()}): {process.args!r}")
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer


def _print_table(figures: list[dict[str, Any]]) -> None:
    print("| side | resolution | s a picture | faster | peak GB | of it | fit s | fit peak GB | of it | image AUROC |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    peers = {figure["resolution"]: figure for figure in figures if figure["side"] == "anomalib"}
    for figure in figures:
        auroc = "–" if figure["image_auroc"] is None else format(figure["image_auroc"], ".3f")
        peer = peers[figure["resolution"]]
        print(
            f"| {figure['side']} | {figure['resolution']}² | {figure['score_seconds']:.3f} "
            f"| {peer['score_seconds'] / figure['score_seconds']:.1f}× "
            f"| {figure['score_peak_gb']:.2f} | {figure['score_peak_gb'] / peer['score_peak_gb']:.0%} "
            f"| {figure['fit_seconds']:.1f} | {figure['fit_peak_gb']:.2f} "
            f"| {figure['fit_peak_gb'] / peer['fit_peak_gb']:.0%} | {auroc} |"
        )


def work(side: str, folder: Path, resolution: int, weights: Path, task: str) -> None:
    """Be one side: fit and save, or load and score what standard input asks for."""
    prepare_side = _anomalib if side == "anomalib" else _twinspect(side)
    fit, load = prepare_side(folder, resolution, weights)
    pictures = np.load(folder / f"{'train' if task == 'fit' else 'test'}.npy")
    empty = _peak_gb()
    if task == "fit":
        started = time.perf_counter()
        fit(pictures)
        print(json.dumps({"fit_seconds": time.perf_counter() - started, "fit_peak_gb": _peak_gb() - empty}))
        return
    score = load()
    for line in sys.stdin:
        if line.strip() == "memory":
            print(json.dumps({"peak_gb": _peak_gb() - empty}), flush=True)
            continue
        picture = pictures[int(line)]
        started = time.perf_counter()
        heatmap = score(picture)
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "score": float(heatmap.max())}), flush=True)


_Fit = Callable[[np.ndarray], None]
_Load = Callable[[], Callable[[np.ndarray], np.ndarray]]


def _twinspect(precision: str) -> Callable[[Path, int, Path], tuple[_Fit, _Load]]:
    def prepare_side(folder: Path, resolution: int, weights: Path) -> tuple[_Fit, _Load]:
        from detection import PaDiM

        model = folder / f"{precision}-{resolution}"

        def fit(pictures: np.ndarray) -> None:
            options: dict[str, Any] = {"resolution": resolution, "precision": precision}
            PaDiM(backbone="resnet18", weights=weights, **options).fit(pictures).save(model)

        def load() -> Callable[[np.ndarray], np.ndarray]:
            return PaDiM.load(model).score

        return fit, load

    return prepare_side


def _anomalib(folder: Path, resolution: int, weights: Path) -> tuple[_Fit, _Load]:
    import torch
    from anomalib.models.image.padim.torch_model import PadimModel
    from safetensors.torch import load_file, save_file

    file = folder / f"anomalib-{resolution}.safetensors"
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def made() -> Any:
        model = PadimModel(backbone="resnet18", layers=["layer1", "layer2", "layer3"], pre_trained=False)
        missing, _ = model.feature_extractor.feature_extractor.load_state_dict(load_file(weights), strict=False)
        if missing:
            raise SystemExit(f"weights that anomalib misses: {missing}")
        return model

    def tensor(picture: np.ndarray) -> Any:
        return ((torch.from_numpy(picture) / 255 - mean) / std).permute(2, 0, 1)[None].contiguous()

    def fit(pictures: np.ndarray) -> None:
        torch.manual_seed(0)
        model = made().train()
        model.feature_extractor.eval()
        for picture in pictures:
            model(tensor(picture))
        model.fit()
        gaussian = {"mean": model.gaussian.mean, "inv_covariance": model.gaussian.inv_covariance, "idx": model.idx}
        save_file({name: value.contiguous() for name, value in gaussian.items()}, file)

    def load() -> Callable[[np.ndarray], np.ndarray]:
        model = made().eval()
        tensors = load_file(file)
        model.gaussian.mean, model.gaussian.inv_covariance = tensors["mean"], tensors["inv_covariance"]
        model.idx = tensors["idx"]

        def score(picture: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(model(tensor(picture)).anomaly_map[0, 0])

        return score

    return fit, load


def _peak_gb() -> float:
    # Of this process alone: getrusage would count the process that started it.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6


def _arguments() -> Iterator[Any]:
    side, folder, resolution, weights, task = sys.argv[1:]
    yield from (side, Path(folder), int(resolution), Path(weights), task)


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] in SIDES:
        work(*_arguments())
    else:
        main()
