import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from detection import (
    Dataset,
    DatasetError,
    DetectionConfig,
    Inspector,
    ModelConfig,
    evaluate,
    evaluation_parts,
    read_dataset,
    train,
)
from detection.pictures import read_mask, read_picture

Write = Callable[..., Path]


def test_parts_that_the_model_has_seen_do_not_count(inspector: Inspector, dataset: Dataset, tmp_path: Path) -> None:
    expected = [f"part-{i:04d}" for i in range(7, 13)]
    assert [part.part_id for part in evaluation_parts(dataset, inspector)] == expected
    shutil.copytree(dataset.folder, tmp_path / "copy")
    renamed = (tmp_path / "copy/parts.csv").read_text().replace("part-", "copy-")
    (tmp_path / "copy/parts.csv").write_text(renamed)
    images = (tmp_path / "copy/images.csv").read_text().replace("part-", "copy-")
    (tmp_path / "copy/images.csv").write_text(images)
    (tmp_path / "copy/truth/parts.csv").unlink()
    copied = evaluation_parts(read_dataset(tmp_path / "copy"), inspector)
    assert [part.part_id for part in copied] == [
        "copy-0007",
        "copy-0008",
        "copy-0009",
    ]  # the others are unlabelled


def test_figures_against_scikit_learn(inspector: Inspector, dataset: Dataset) -> None:
    result = evaluate(dataset, inspector)
    statistics, labels, pixels, truths, images, image_labels = [], [], [], [], [], []
    for part in dataset.parts[7:]:
        scores = []
        for view in dataset.views:
            one = inspector.score_view(view, read_picture(part.pictures[view]))
            path = part.masks[view]
            truth = np.zeros((120, 160), dtype=np.bool_) if path is None else read_mask(path, shape=(120, 160))
            scores.append(one.score)
            image_labels.append(truth.any())
            pixels.append(one.heatmap[one.valid])
            truths.append(one.geometry.mask_to_grid(truth)[one.valid])
        images += scores
        statistics.append(sorted(scores)[-2])
        labels.append(part.label == "defective")
    assert result.part_auroc is not None and result.image_auroc is not None
    assert result.part_auroc.value == pytest.approx(roc_auc_score(labels, statistics)) == 1
    assert (result.part_auroc.low, result.part_auroc.high) == (pytest.approx(0.501, abs=1e-3), 1)  # three of each
    assert result.image_auroc.value == pytest.approx(roc_auc_score(image_labels, images))
    expected = roc_auc_score(np.concatenate(truths), np.concatenate(pixels))
    assert result.pixel_auroc is not None and result.pro is not None
    assert result.pixel_auroc.value == pytest.approx(expected, abs=1e-4) and result.pixel_auroc.value > 0.9
    assert 0 < result.pixel_auroc.low < result.pixel_auroc.value < result.pixel_auroc.high <= 1
    assert 0.5 < result.pro.low < result.pro.value < result.pro.high < 1
    assert [part.statistic for part in result.parts] == pytest.approx(statistics)
    assert result.at_full_tpr is not None and result.tpr is not None and result.tnr is not None
    assert result.at_full_tpr.threshold == pytest.approx(min(statistics[3:])) and result.at_full_tpr.tnr == result.tnr
    assert (result.tpr.value, result.tnr.value, result.tpr.high) == (1, 1, 1)
    assert result.tpr.low == pytest.approx(0.025 ** (1 / 3))


def test_the_json_has_the_agreed_keys_and_is_valid(inspector: Inspector, dataset: Dataset) -> None:
    text = json.dumps(evaluate(dataset, inspector).to_json(), allow_nan=False)
    content = json.loads(text)
    agreed = {
        "part_auroc", "image_auroc", "pixel_auroc", "tnr_at_full_tpr", "threshold_at_full_tpr", "parts_good",
        "parts_defective", "images_per_second",
    }  # fmt: skip
    assert agreed <= set(content)
    for name in ("part_auroc", "image_auroc", "pixel_auroc", "pro", "tnr_at_full_tpr", "tpr", "tnr"):
        low, high = content[f"{name}_interval"]
        assert 0 <= low <= content[name] <= high <= 1 and low < high
    assert (content["parts_good"], content["parts_defective"]) == (3, 3) and content["images_per_second"] > 0
    assert set(content["parts"][0]["view_scores"]) == {"front", "back", "side"}


def with_blank(dataset: Dataset, tmp_path: Path, parts: range) -> Dataset:
    """A copy in which some parts were not before the camera in their first view."""
    shutil.copytree(dataset.folder, tmp_path / "copy")
    copied = read_dataset(tmp_path / "copy")
    for part in copied.parts[parts.start : parts.stop]:
        assert cv2.imwrite(str(part.pictures["front"]), np.zeros((120, 160, 3), dtype=np.uint8))
    return copied


def test_a_part_with_a_view_that_cannot_be_scored_is_rechecked(
    inspector: Inspector, dataset: Dataset, tmp_path: Path
) -> None:
    whole, result = evaluate(dataset, inspector), evaluate(with_blank(dataset, tmp_path, range(7, 8)), inspector)
    rechecked, other = result.parts[:2]
    assert "same brightness" in rechecked.problems[0] and not rechecked.accepted
    assert rechecked.statistic is None and set(rechecked.view_scores) == {"back", "side"}
    assert other == whole.parts[1] and other.accepted
    assert result.tnr is not None and result.tnr.value == pytest.approx(2 / 3)  # it counts as rejected
    assert result.part_auroc is not None and result.part_auroc.value == pytest.approx(2 / 3)
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["parts_recheck"] == 1 and content["parts"][0]["statistic"] is None


def test_defective_parts_that_are_all_rechecked_are_all_found(
    inspector: Inspector, dataset: Dataset, tmp_path: Path
) -> None:
    content = evaluate(with_blank(dataset, tmp_path, range(10, 13)), inspector).to_json()
    assert (content["tpr"], content["tnr_at_full_tpr"], content["threshold_at_full_tpr"]) == (1, 1, None)


def test_pictures_of_which_none_can_be_scored_are_an_error(
    inspector: Inspector, dataset: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    for path in (tmp_path / "copy/images").iterdir():
        assert cv2.imwrite(str(path), np.zeros((120, 160, 3), dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"no picture can be scored; the first: .* same brightness"):
        evaluate(read_dataset(tmp_path / "copy"), inspector)


def without(dataset: Dataset, inspector: Inspector, tmp_path: Path, *, pattern: str) -> Dataset:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    for path in sorted((tmp_path / "copy").glob(pattern)):
        path.unlink()
    return read_dataset(tmp_path / "copy")


def test_without_a_mask_pictures_of_several_views_have_no_label(
    inspector: Inspector, dataset: Dataset, tmp_path: Path
) -> None:
    result = evaluate(without(dataset, inspector, tmp_path, pattern="truth/masks/part-0011/*34.png"), inspector)
    assert result.part_auroc is not None
    assert result.image_auroc is None and result.pixel_auroc is None and result.pro is None


def test_figures_of_a_missing_class_are_null(inspector: Inspector, dataset: Dataset, tmp_path: Path) -> None:
    result = evaluate(without(dataset, inspector, tmp_path, pattern="truth/parts.csv"), inspector).to_json()
    assert result["parts_defective"] == 0 and result["parts_good"] == 3
    for key in (
        "part_auroc",
        "image_auroc",
        "pixel_auroc",
        "pro",
        "pro_interval",
        "part_auroc_interval",
        "tnr_at_full_tpr",
        "tnr_at_full_tpr_interval",
        "threshold_at_full_tpr",
        "tpr",
    ):
        assert result[key] is None
    assert result["tnr"] == 1


def test_nothing_left_to_evaluate_is_an_error(
    dataset: Dataset,
    tmp_path: Path,
    collected: Write,
    small_config: DetectionConfig,
    small_model: ModelConfig,
) -> None:
    few = read_dataset(collected(tmp_path / "few", good=3, defective=0))
    trained = train(few, config=small_config, model=small_model)
    with pytest.raises(DatasetError, match="no labelled part that the model has not seen"):
        evaluate(few, trained)


def test_other_views_are_refused(inspector: Inspector, tmp_path: Path, mvtec: Write) -> None:
    with pytest.raises(DatasetError, match="views are"):
        evaluate(read_dataset(mvtec(tmp_path / "nut")), inspector)


@pytest.mark.parametrize("masks", [True, False])
def test_photographs_in_the_mvtec_layout(tmp_path: Path, mvtec: Write, small_model: ModelConfig, masks: bool) -> None:
    dataset = read_dataset(mvtec(tmp_path / "nut", train=6, masks=masks))
    inspector = train(dataset, config=DetectionConfig(), model=small_model)
    told: list[int] = []
    result = evaluate(dataset, inspector, progress=lambda _what, done, _total: told.append(done))
    assert told == [1, 2, 3, 4]
    assert [part.part_id for part in result.parts][:1] == ["test/dot/000"]
    assert result.part_auroc is not None and result.part_auroc.value == 1
    assert result.image_auroc == result.part_auroc  # the part's label is its only picture's
    assert (result.pixel_auroc is not None) == (result.pro is not None) == masks
    statistics: NDArray[np.float64] = np.array([part.statistic for part in result.parts])
    assert (statistics[:2].min() > statistics[2:].max()).all()
