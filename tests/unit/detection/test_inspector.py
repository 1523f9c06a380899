import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection import (
    Dataset,
    DatasetError,
    DecisionError,
    DetectionConfig,
    Inspector,
    ModelConfig,
    ModelError,
    PictureError,
    read_dataset,
)
from detection.backbones import Backbone
from detection.calibration import held_out_threshold
from detection.config import ScoreConfig
from detection.decisions import part_statistic
from detection.evaluation import evaluate
from detection.padim import PaDiM
from detection.pictures import read_picture
from detection.preprocess import prepare

Ring = Callable[..., NDArray[np.uint8]]
Write = Callable[..., Path]


def part_scores(inspector: Inspector, dataset: Dataset, number: int) -> dict[str, float]:
    pictures = dataset.parts[number].pictures
    return {view: inspector.score_view(view, read_picture(pictures[view])).score for view in dataset.views}


def test_good_parts_pass_and_defective_ones_do_not(inspector: Inspector, dataset: Dataset) -> None:
    for number in range(7, 10):
        assert not inspector.decide(part_scores(inspector, dataset, number)).anomalous
    for number in range(10, 13):
        decision = inspector.decide(part_scores(inspector, dataset, number))
        assert decision.anomalous and decision.views_over == ("front", "back")


def test_one_view_over_the_threshold_is_not_enough(inspector: Inspector) -> None:
    low, high = inspector.threshold / 2, inspector.threshold
    one = inspector.decide({"front": high, "back": low, "side": low})
    assert (one.anomalous, one.views_over, one.statistic) == (False, ("front",), low)
    two = inspector.decide({"front": low, "back": high, "side": high})
    assert (two.anomalous, two.views_over, two.threshold) == (True, ("back", "side"), high)


@pytest.mark.parametrize("scores", [{}, {"front": 1.0, "back": 1.0}, {"front": 1.0, "back": 1.0, "side": float("nan")}])
def test_a_part_without_every_view_gets_no_verdict(inspector: Inspector, scores: dict[str, float]) -> None:
    with pytest.raises(DecisionError):
        inspector.decide(scores)


def test_an_unknown_view_is_refused(inspector: Inspector, ring: Ring) -> None:
    with pytest.raises(DecisionError, match="'top'"):
        inspector.decide({"front": 1.0, "back": 1.0, "side": 1.0, "top": 1.0})
    with pytest.raises(DecisionError, match="'top'"):
        inspector.score_view("top", ring(seed=0))


def test_a_view_is_scored_on_the_crop(inspector: Inspector, dataset: Dataset, small_config: DetectionConfig) -> None:
    picture = read_picture(dataset.parts[11].pictures["front"])
    result = inspector.score_view("front", picture)
    prepared = prepare(picture, resolution=256, config=small_config.preprocess, bottom_share=0.1)
    assert result.geometry == prepared.geometry and result.geometry.box.bottom <= 108
    assert result.geometry.box.width < 110  # of 160: the ring, not the frame
    expected = inspector.models["front"].score(prepared.image)
    np.testing.assert_array_equal(result.heatmap, expected)
    assert result.score == expected[prepared.valid].max()


def test_masked_defects_do_not_count(inspector: Inspector, ring: Ring) -> None:
    mask = np.zeros((120, 160), dtype=np.bool_)
    mask[:40, 60:100] = True
    good, defective = (inspector.score_view("front", ring(seed=5, defect=d), mask=mask) for d in (False, True))
    np.testing.assert_array_equal(defective.heatmap, good.heatmap)
    assert defective.score == good.score == good.heatmap[good.valid].max()
    assert not good.valid[good.geometry.mask_to_grid(mask)].any()


def test_a_mask_that_marks_nothing_changes_nothing(inspector: Inspector, ring: Ring) -> None:
    whole = inspector.score_view("front", ring(seed=5))
    masked = inspector.score_view("front", ring(seed=5), mask=np.zeros((120, 160), dtype=np.bool_))
    np.testing.assert_array_equal(masked.heatmap, whole.heatmap)
    assert (masked.score, masked.geometry) == (whole.score, whole.geometry)


def test_a_wholly_masked_picture_is_refused(inspector: Inspector, ring: Ring) -> None:
    with pytest.raises(PictureError, match="view front: every pixel is masked"):
        inspector.score_view("front", ring(seed=0), mask=np.ones((120, 160), dtype=np.bool_))


def test_frames_of_another_size_are_refused(inspector: Inspector, ring: Ring) -> None:
    with pytest.raises(PictureError, match="view front"):
        inspector.score_view("front", np.repeat(ring(seed=0), 2, axis=0))


def test_the_threshold_comes_from_models_that_have_not_seen_the_part(
    inspector: Inspector,
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    lite0: Backbone,
) -> None:
    scores: list[dict[str, float]] = [{} for _ in range(7)]
    for view in dataset.views:
        prepared = [
            prepare(
                read_picture(part.pictures[view]),
                resolution=256,
                config=small_config.preprocess,
                bottom_share=0.1,
            )
            for part in dataset.parts[:7]
        ]
        for i in range(7):
            model = PaDiM(**small_model.model_dump(), smoothing_sigma=2.0)
            model.fit(prepared[j].image for j in range(7) if j != i)
            scores[i][view] = float(model.score(prepared[i].image)[prepared[i].valid].max())
    statistics = [part_statistic(one.values(), k=2) for one in scores]
    recorded = [part.held_out_statistic for part in inspector.info.trained_with]
    np.testing.assert_allclose(recorded, statistics, rtol=1e-3)
    assert inspector.threshold == held_out_threshold(recorded, alpha=0.05)


def test_features_that_do_not_fit_in_memory_are_computed_again(
    inspector: Inspector,
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("detection.training._KEPT_BYTES", 2 * 4096 * 12 * 4)  # two pictures' features
    again = Inspector.train(dataset, config=small_config, model=small_model, train_parts=7)
    assert again.threshold == inspector.threshold


def test_the_training_record_names_parts_and_pictures(inspector: Inspector, dataset: Dataset) -> None:
    record = inspector.info.trained_with
    assert [part.part_id for part in record] == [part.part_id for part in dataset.parts[:7]]
    digests = [digest for part in record for digest in part.sha256.values()]
    assert len(set(digests)) == 21 and all(len(digest) == 64 for digest in digests)
    assert inspector.info.made_for == {"cell": "test"}


def test_progress_is_told_to_the_end(dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig) -> None:
    told: list[tuple[str, int, int]] = []
    Inspector.train(
        dataset,
        config=small_config,
        model=small_model,
        train_parts=3,
        progress=lambda *step: told.append(step),
    )
    assert [done for _, done, _ in told] == list(range(1, 10)) and {total for *_, total in told} == {9}


def test_a_loaded_inspector_is_the_same(inspector: Inspector, dataset: Dataset, tmp_path: Path) -> None:
    inspector.save(tmp_path / "model")
    loaded = Inspector.load(tmp_path / "model")
    assert loaded.info.model_copy(update={"files": {}}) == inspector.info and loaded.views == inspector.views
    assert len(loaded.info.files) == 1 + 2 * len(loaded.views)
    assert part_scores(loaded, dataset, 11) == part_scores(inspector, dataset, 11)
    written = sorted(str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*.*"))
    assert written[:2] == ["backbone.safetensors", "inspector.json"]
    assert written[2:4] == ["views/back/padim.json", "views/back/padim.safetensors"]


def test_training_twice_gives_identical_files(
    inspector: Inspector,
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    tmp_path: Path,
) -> None:
    inspector.save(tmp_path / "first")
    Inspector.train(dataset, config=small_config, model=small_model, train_parts=7).save(tmp_path / "second")
    for path in (tmp_path / "first").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


@pytest.mark.parametrize("name", ["inspector.json", "backbone.safetensors", "views/side/padim.safetensors"])
def test_an_incomplete_inspector_is_refused_by_file(inspector: Inspector, tmp_path: Path, name: str) -> None:
    inspector.save(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(ModelError, match=Path(name).name):
        Inspector.load(tmp_path / "model")


def test_view_names_cannot_leave_the_folder(inspector: Inspector, tmp_path: Path) -> None:
    inspector.save(tmp_path / "model")
    path = tmp_path / "model" / "inspector.json"
    content = json.loads(path.read_text())
    content["frame_shapes"] = {"../../elsewhere": [120, 160]}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"inspector\.json"):
        Inspector.load(tmp_path / "model")


def mask_pictures(folder: Path, *, seed: int) -> Dataset:
    """Mask all pictures of a dataset at the upper right, where they then show noise."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 160), dtype=np.uint8)
    mask[20:50, 100:150] = 255
    assert cv2.imwrite(str(folder / "hand.png"), mask)
    for part in read_dataset(folder).parts:
        for path in part.pictures.values():
            picture = read_picture(path)
            picture[mask > 0] = rng.integers(0, 256, ((mask > 0).sum(), 3))
            assert cv2.imwrite(str(path), picture)
    head, *rows = (folder / "images.csv").read_text().splitlines()
    (folder / "images.csv").write_text("\n".join([f"{head},mask", *(f"{row},hand.png" for row in rows)]))
    return read_dataset(folder)


def test_what_a_dataset_masks_is_neither_trained_nor_scored(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    """Whatever lies under the masks, threshold, models and figures are the same to the last bit."""
    found = []
    for seed in (1, 2):
        masked = mask_pictures(collected(tmp_path / f"data-{seed}", good=5, defective=1), seed=seed)
        trained = Inspector.train(masked, config=small_config, model=small_model, train_parts=4)
        trained.save(tmp_path / f"model-{seed}")
        found.append((Inspector.load(tmp_path / f"model-{seed}"), evaluate(masked, trained)))
    (one, first), (two, second) = found
    assert one.info.masked and one.threshold == two.threshold and one.info.files == two.info.files
    assert first.parts == second.parts and first.part_auroc == second.part_auroc == 1
    assert one.info.trained_with[0].sha256 != two.info.trained_with[0].sha256


def test_masked_pictures_and_a_model_of_whole_ones_do_not_go_together(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, inspector: Inspector, tmp_path: Path
) -> None:
    whole = read_dataset(collected(tmp_path / "whole", good=3, defective=1, first=50))
    masked = mask_pictures(collected(tmp_path / "masked", good=3, defective=1), seed=1)
    with pytest.raises(DatasetError, match="masked: its pictures are masked, those that the model was trained on not"):
        evaluate(masked, inspector)
    trained = Inspector.train(masked, config=small_config, model=small_model, train_parts=2)
    with pytest.raises(DatasetError, match="whole: its pictures are not masked, those that the model was trained on"):
        evaluate(whole, trained)


def test_a_mask_of_another_size_than_its_picture_is_named(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    masked = mask_pictures(collected(tmp_path / "data", good=3, defective=0), seed=1)
    trained = Inspector.train(masked, config=small_config, model=small_model, train_parts=2)
    cv2.imwrite(str(tmp_path / "data" / "hand.png"), np.zeros((60, 80), dtype=np.uint8))
    with pytest.raises(PictureError, match=r"hand\.png: the mask is \(60, 80\), its picture \(120, 160\) pixels"):
        Inspector.train(masked, config=small_config, model=small_model)
    with pytest.raises(PictureError, match=r"hand\.png: the mask is"):
        evaluate(masked, trained)


def test_pictures_of_different_sizes_are_refused(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path, ring: Ring
) -> None:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    changed = read_dataset(tmp_path / "copy")
    path = changed.parts[2].pictures["back"]
    cv2.imwrite(str(path), cv2.resize(ring(seed=0), (200, 150)))
    with pytest.raises(DatasetError, match=path.name):
        Inspector.train(changed, config=small_config, model=small_model)


def test_a_truncated_training_picture_is_named(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    path = read_dataset(tmp_path / "copy").parts[2].pictures["back"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PictureError, match=path.name):
        Inspector.train(read_dataset(tmp_path / "copy"), config=small_config, model=small_model)


def test_fewer_than_two_parts_are_refused(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    with pytest.raises(DatasetError, match="at least 2"):
        Inspector.train(dataset, config=small_config, model=small_model, train_parts=1)


def test_two_parts_train_models_that_accept_nothing(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    Inspector.train(dataset, config=small_config, model=small_model, train_parts=2).save(tmp_path / "m")
    inspector = Inspector.load(tmp_path / "m")
    assert [part.held_out_statistic for part in inspector.info.trained_with] == [None, None]
    assert inspector.decide({view: 0.0 for view in inspector.views}).anomalous


def test_photographs_are_taken_as_they_are(tmp_path: Path, mvtec: Write, small_model: ModelConfig, ring: Ring) -> None:
    folder = mvtec(tmp_path / "nut")
    cv2.imwrite(str(folder / "train/good/000.png"), cv2.resize(ring(seed=0), (180, 150)))
    inspector = Inspector.train(read_dataset(folder), config=DetectionConfig(), model=small_model)
    config = inspector.info.config
    assert (config.preprocess.crop, config.vote.k, inspector.views) == ("none", 1, ("view",))
    assert inspector.score_view("view", ring(seed=3)).geometry.box.width == 160
    with pytest.raises(DecisionError, match="millimetres"):
        cluster = DetectionConfig(score=ScoreConfig(method="cluster"))
        Inspector.train(read_dataset(folder), config=cluster, model=small_model)
