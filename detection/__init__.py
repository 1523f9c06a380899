"""Anomaly detection on pictures of a part: images in, verdict out. Knows no robot, no simulator, no database.

Pictures of good parts are enough to train, and a heatmap shows where another picture differs from them:

>>> import numpy as np
>>> from detection import PaDiM
>>> rng = np.random.default_rng(0)
>>> good = [rng.integers(100, 120, (256, 256, 3), dtype=np.uint8) for _ in range(8)]
>>> model = PaDiM(backbone="efficientnet_lite0", resolution=256, seed=0).fit(good)
>>> scratched = good[0].copy()
>>> scratched[60:70, 150:220] = 255
>>> heatmap = model.score(scratched)  # (256, 256) float32, Mahalanobis distances
>>> row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
>>> bool(abs(row - 65) < 20 and 140 < column < 230)
True

`PaDiM` is the model of one view. `Inspector` holds one for each view of a part, with a threshold and the
vote; `read_dataset` and `evaluate` go with it. `python -m pydoc detection.inspector` tells more. The kernels
run in OpenMP's threads, which a forked process does not have: give `multiprocessing` and data loaders the
start method "spawn".
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# GNU OpenMP lets idle threads of torch and Numba spin for milliseconds. As soon as another process wants the
# same cores (the twin, the operator page), every layer of the network waits for a thread that is not running:
# 1,100 ms a picture instead of 13 on two cores. It must stand before torch is loaded; an own value is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from detection.calibration import (
        cross_conformal_threshold,
        held_out_threshold,
        middle_of_means,
        split_conformal_threshold,
        swept_threshold,
    )
    from detection.config import DetectionConfig, ModelConfig
    from detection.datasets import Dataset, Part, read_dataset
    from detection.description import Decision, Guarantee, InspectorInfo
    from detection.errors import (
        DatasetError,
        DecisionError,
        DetectionError,
        ModelError,
        PictureError,
        WeightsError,
    )
    from detection.evaluation import Evaluation, evaluate, evaluation_parts
    from detection.extending import extend
    from detection.inspector import Inspector
    from detection.locations import Location, locate
    from detection.padim import PaDiM
    from detection.pictures import read_picture
    from detection.scores import ViewScore
    from detection.training import train

# A process that only reads configuration or talks to the robot must not pay for loading the network's libraries.
_HOME = {
    "Dataset": "datasets",
    "DatasetError": "errors",
    "Decision": "description",
    "DecisionError": "errors",
    "DetectionConfig": "config",
    "DetectionError": "errors",
    "Evaluation": "evaluation",
    "Guarantee": "description",
    "Inspector": "inspector",
    "InspectorInfo": "description",
    "Location": "locations",
    "ModelConfig": "config",
    "ModelError": "errors",
    "PaDiM": "padim",
    "Part": "datasets",
    "PictureError": "errors",
    "ViewScore": "scores",
    "WeightsError": "errors",
    "cross_conformal_threshold": "calibration",
    "evaluate": "evaluation",
    "evaluation_parts": "evaluation",
    "extend": "extending",
    "held_out_threshold": "calibration",
    "locate": "locations",
    "middle_of_means": "calibration",
    "read_dataset": "datasets",
    "read_picture": "pictures",
    "train": "training",
    "split_conformal_threshold": "calibration",
    "swept_threshold": "calibration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'detection' has no attribute {name!r}")
    return getattr(import_module(f"detection.{_HOME[name]}"), name)


__all__ = [
    "Dataset",
    "DatasetError",
    "Decision",
    "DecisionError",
    "DetectionConfig",
    "DetectionError",
    "Evaluation",
    "Guarantee",
    "Inspector",
    "InspectorInfo",
    "Location",
    "ModelConfig",
    "ModelError",
    "PaDiM",
    "Part",
    "PictureError",
    "ViewScore",
    "WeightsError",
    "cross_conformal_threshold",
    "evaluate",
    "evaluation_parts",
    "extend",
    "held_out_threshold",
    "locate",
    "middle_of_means",
    "read_dataset",
    "read_picture",
    "split_conformal_threshold",
    "swept_threshold",
    "train",
]
