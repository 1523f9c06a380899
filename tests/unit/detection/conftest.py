import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection import Dataset, DetectionConfig, Inspector, ModelConfig, read_dataset, train
from detection.backbones import Backbone, pretrained
from detection.config import DistanceConfig, PreprocessConfig, ScoreConfig, VoteConfig

VIEWS = ("front", "back", "side")
FRAME = (120, 160)


def ring_picture(*, seed: int, defect: bool = False) -> NDArray[np.uint8]:
    """A bright ring on a dark background, 120×160, with a little noise; `defect` puts a dark dot on it."""
    rng = np.random.default_rng(seed)
    picture = np.full((*FRAME, 3), 15, dtype=np.uint8)
    cv2.circle(picture, (80, 52), 36, (150, 150, 150), 10)
    if defect:
        cv2.circle(picture, (80, 16), 4, (30, 30, 30), -1)
    noisy: NDArray[np.uint8] = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    return noisy


def defect_mask() -> NDArray[np.uint8]:
    mask = np.zeros(FRAME, dtype=np.uint8)
    cv2.circle(mask, (80, 16), 4, 255, -1)
    return mask


def write_collected(folder: Path, *, good: int, defective: int, first: int = 0) -> Path:
    """What `twinspect collect` writes; defects are seen by the views front and back."""
    (folder / "images").mkdir(parents=True)
    description = {
        "format": "twinspect-dataset",
        "version": 1,
        "views": VIEWS,
        "bottom_share": 0.1,
        "picture_width_mm": 104.0,
        "made_for": {"cell": "test"},
        "seed": 7,
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    parts = [["part_id", "lot", "cavity", "shot", "declared", "mass_g"]]
    images = [["part_id", "view", "file", "frame", "exposure_us"]]
    truth = [["part_id", "label", "defects"]]
    frame = 0
    for number in range(first, first + good + defective):
        bad = number >= first + good
        identifier = f"part-{number:04d}"
        parts.append([identifier, "lot", "1", str(number), "" if bad else "good", "12.5"])
        truth.append([identifier, "defective" if bad else "good", "[]"])
        for index, view in enumerate(VIEWS):
            visible = bad and view != "side"
            file = f"images/{frame:06d}.png"
            picture = ring_picture(seed=1000 * number + index, defect=visible)
            assert cv2.imwrite(str(folder / file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            images.append([identifier, view, file, str(frame), "900"])
            if bad:
                mask = folder / "truth" / "masks" / identifier / f"{frame:06d}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(mask), defect_mask() if visible else np.zeros(FRAME, np.uint8))
            frame += 1
    (folder / "truth").mkdir(exist_ok=True)
    for name, rows in (("parts.csv", parts), ("images.csv", images), ("truth/parts.csv", truth)):
        with (folder / name).open("w", newline="") as file_:
            csv.writer(file_).writerows(rows)
    return folder


def write_mvtec(folder: Path, *, train: int = 4, masks: bool = True) -> Path:
    for place in ("train/good", "test/good", "test/dot", "ground_truth/dot"):
        (folder / place).mkdir(parents=True)
    for i in range(train):
        cv2.imwrite(str(folder / f"train/good/{i:03d}.png"), ring_picture(seed=i))
    for i in range(2):
        cv2.imwrite(str(folder / f"test/good/{i:03d}.png"), ring_picture(seed=100 + i))
        cv2.imwrite(str(folder / f"test/dot/{i:03d}.png"), ring_picture(seed=200 + i, defect=True))
        if masks:
            cv2.imwrite(str(folder / f"ground_truth/dot/{i:03d}_mask.png"), defect_mask())
    return folder


@pytest.fixture
def ring() -> Callable[..., NDArray[np.uint8]]:
    return ring_picture


@pytest.fixture
def collected() -> Callable[..., Path]:
    return write_collected


@pytest.fixture
def mvtec() -> Callable[..., Path]:
    return write_mvtec


@pytest.fixture(scope="session")
def lite0() -> Backbone:
    return pretrained("efficientnet_lite0")


@pytest.fixture(scope="session")
def small_config() -> DetectionConfig:
    """A vote of two views; less smoothing than usual, for the test pictures' defects are small beside 4 px."""
    return DetectionConfig(
        preprocess=PreprocessConfig(classes=2, margin=0.1),
        score=ScoreConfig(smoothing_sigma=2.0),
        vote=VoteConfig(k=2),
    )


@pytest.fixture(scope="session")
def small_model() -> ModelConfig:
    return ModelConfig(n_features=12, seed=3)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(write_collected(tmp_path_factory.mktemp("data") / "rings", good=10, defective=3))


@pytest.fixture(scope="session", params=["layer", "position"])
def inspector(
    request: pytest.FixtureRequest, dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> Inspector:
    config = small_config.model_copy(update={"distance": DistanceConfig(covariance=request.param)})
    return train(dataset, config=config, model=small_model, train_parts=7)
