import json
import shutil
from collections.abc import Callable
from dataclasses import replace
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
    train,
)
from detection.calibration import cross_conformal_threshold, held_out_threshold, split_conformal_threshold
from detection.config import DistanceConfig, PreprocessConfig, ScoreConfig, ThresholdConfig, TrainingConfig
from detection.decisions import part_statistic
from detection.evaluation import evaluate
from detection.padim import PaDiM
from detection.pictures import read_mask, read_picture
from detection.preprocess import make_reference, prepare

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
    prepared = prepare(
        picture,
        resolution=256,
        config=small_config.preprocess,
        bottom_share=0.1,
        reference=inspector.references["front"],
    )
    assert result.geometry == prepared.geometry and result.geometry.box.bottom <= 108
    assert result.quality == prepared.quality and result.quality is not None and 0.9 < result.quality < 1
    assert result.geometry.box.width < 110  # of 160: the ring, not the frame
    distances = inspector.models["front"].score(prepared.image)
    np.testing.assert_array_equal(result.heatmap, distances)
    assert result.score == distances[prepared.valid].max()


@pytest.fixture
def masked_inspector(inspector: Inspector) -> Inspector:
    """The same models, as if their pictures had come with masks."""
    return replace(inspector, info=inspector.info.model_copy(update={"masked": True}))


def test_masked_defects_do_not_count(masked_inspector: Inspector, ring: Ring) -> None:
    mask = np.zeros((120, 160), dtype=np.bool_)
    mask[:40, 60:100] = True
    good, defective = (masked_inspector.score_view("front", ring(seed=5, defect=d), mask=mask) for d in (False, True))
    np.testing.assert_array_equal(defective.heatmap, good.heatmap)
    assert defective.score == good.score == good.heatmap[good.valid].max()
    assert not good.valid[good.geometry.mask_to_grid(mask)].any()


def test_a_mask_that_marks_nothing_changes_nothing(
    inspector: Inspector, masked_inspector: Inspector, ring: Ring
) -> None:
    whole = inspector.score_view("front", ring(seed=5))
    masked = masked_inspector.score_view("front", ring(seed=5), mask=np.zeros((120, 160), dtype=np.bool_))
    np.testing.assert_array_equal(masked.heatmap, whole.heatmap)
    assert (masked.score, masked.geometry) == (whole.score, whole.geometry)


def test_a_mask_leaves_out_of_registration_what_is_damaged(
    inspector: Inspector, masked_inspector: Inspector, dataset: Dataset
) -> None:
    picture = read_picture(dataset.parts[11].pictures["front"])
    mask = np.zeros(picture.shape[:2], dtype=np.bool_)
    mask[:40, 60:100] = True
    whole = inspector.score_view("front", picture)
    masked = masked_inspector.score_view("front", picture, mask=mask)
    assert masked.quality is not None and whole.quality is not None and masked.quality > whole.quality


def test_a_picture_of_which_every_position_is_touched_by_the_mask_is_refused(
    masked_inspector: Inspector, ring: Ring
) -> None:
    """One masked pixel in sixteen leaves no position of the grid whole: nothing is known, and that is not good."""
    plain = masked_inspector.info.config.preprocess.model_copy(update={"registration": "none", "crop": "none"})
    config = masked_inspector.info.config.model_copy(update={"preprocess": plain})
    whole_pictures = Inspector(masked_inspector.info.model_copy(update={"config": config}), masked_inspector.models)
    mask = np.zeros((120, 160), dtype=np.bool_)
    mask[::2, ::2] = True
    with pytest.raises(PictureError, match="no valid pixel"):
        whole_pictures.score_view("front", ring(seed=0), mask=mask)


def test_masks_belong_to_a_model_of_masked_pictures_alone(
    inspector: Inspector, masked_inspector: Inspector, ring: Ring
) -> None:
    with pytest.raises(PictureError, match=r"view front: a mask comes with it, .* had none"):
        inspector.score_view("front", ring(seed=0), mask=np.zeros((120, 160), dtype=np.bool_))
    with pytest.raises(PictureError, match=r"view front: no mask comes with it, .* had one"):
        masked_inspector.score_view("front", ring(seed=0))


def test_a_wholly_masked_picture_is_refused(masked_inspector: Inspector, ring: Ring) -> None:
    with pytest.raises(PictureError, match="view front: every pixel is masked"):
        masked_inspector.score_view("front", ring(seed=0), mask=np.ones((120, 160), dtype=np.bool_))


def test_frames_of_another_size_are_refused(inspector: Inspector, ring: Ring) -> None:
    with pytest.raises(PictureError, match="view front"):
        inspector.score_view("front", np.repeat(ring(seed=0), 2, axis=0))


def test_a_part_that_cannot_be_registered_has_no_score(inspector: Inspector, ring: Ring) -> None:
    turned_away = np.ascontiguousarray(ring(seed=0)[:, :60].repeat(3, axis=1)[:, :160])
    with pytest.raises(PictureError, match=r"view front: .*check that this part is there"):
        inspector.score_view("front", turned_away)


def test_without_registration_each_picture_is_cropped_for_itself(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    alone = PreprocessConfig(classes=2, margin=0.1, registration="none")
    config = small_config.model_copy(update={"preprocess": alone})
    train(dataset, tmp_path / "m", config=config, model=small_model, train_parts=3)
    inspector = Inspector.load(tmp_path / "m")
    assert not inspector.references and not list((tmp_path / "m").rglob("reference.*"))
    picture = read_picture(dataset.parts[8].pictures["front"])
    result = inspector.score_view("front", picture)
    assert result.quality is None
    assert result.geometry == prepare(picture, resolution=256, config=alone, bottom_share=0.1).geometry


def test_the_threshold_comes_from_models_that_have_not_seen_the_part(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    distance = DistanceConfig(covariance="position")
    config = small_config.model_copy(update={"distance": distance})
    inspector = train(dataset, config=config, model=small_model, train_parts=5)
    scores: list[dict[str, float]] = [{} for _ in range(5)]
    for view in dataset.views:
        first = read_picture(dataset.parts[0].pictures[view])
        reference = make_reference(first, config=small_config.preprocess, bottom_share=0.1)
        prepared = [
            prepare(
                read_picture(part.pictures[view]),
                resolution=256,
                config=small_config.preprocess,
                bottom_share=0.1,
                reference=reference,
            )
            for part in dataset.parts[:5]
        ]
        for i in range(5):
            model = PaDiM(**small_model.model_dump(), smoothing_sigma=2.0)
            model.fit(prepared[j].image for j in range(5) if j != i)
            scores[i][view] = float(model.score(prepared[i].image)[prepared[i].valid].max())
    statistics = [part_statistic(one.values(), k=2) for one in scores]
    recorded = [part.held_out_statistic for part in inspector.info.trained_with]
    np.testing.assert_allclose(recorded, statistics, rtol=1e-3)
    assert inspector.threshold == held_out_threshold(recorded, alpha=0.05)
    assert inspector.info.guarantee is None


def test_the_training_record_names_parts_and_pictures(inspector: Inspector, dataset: Dataset) -> None:
    record = inspector.info.trained_with
    assert [part.part_id for part in record] == [part.part_id for part in dataset.parts[:7]]
    digests = [digest for part in record for digest in part.sha256.values()]
    assert len(set(digests)) == 21 and all(len(digest) == 64 for digest in digests)
    assert inspector.info.made_for == {"cell": "test"}


def test_progress_is_told_to_the_end(dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig) -> None:
    told: list[tuple[str, int, int]] = []
    train(
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
    assert len(loaded.info.files) == 1 + 3 * len(loaded.views)
    assert part_scores(loaded, dataset, 11) == part_scores(inspector, dataset, 11)
    written = sorted(str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*.*"))
    assert written[:2] == ["backbone.safetensors", "inspector.json"]
    assert written[2:5] == [
        f"views/back/{name}" for name in ("padim.json", "padim.safetensors", "reference.safetensors")
    ]


def test_training_twice_gives_identical_files(
    inspector: Inspector, dataset: Dataset, small_model: ModelConfig, tmp_path: Path
) -> None:
    inspector.save(tmp_path / "first")
    train(dataset, tmp_path / "second", config=inspector.info.config, model=small_model, train_parts=7)
    for path in (tmp_path / "first").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes()


@pytest.mark.parametrize(
    "name",
    ["inspector.json", "backbone.safetensors", "views/side/padim.safetensors", "views/side/reference.safetensors"],
)
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


def test_held_out_scores_with_masks_are_those_of_models_without_the_part(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    """Where only few show a position, the part that is left out decides whether it is scored at all."""
    folder = collected(tmp_path / "data", good=7, defective=0)
    head, *rows = (folder / "images.csv").read_text().splitlines()
    for name, columns in (("left", slice(0, 84)), ("none", slice(0, 0))):
        mask = np.zeros((120, 160), dtype=np.uint8)
        mask[:, columns] = 255
        assert cv2.imwrite(str(folder / f"{name}.png"), mask)
    masks = ["none", "left", "left", "none", "left", "none", "none"]  # 4 of 7 show the left, 3 of 6 without the last
    rows = [f"{row},{masks[i // 3]}.png" for i, row in enumerate(rows)]
    (folder / "images.csv").write_text("\n".join([f"{head},mask", *rows]))
    dataset = read_dataset(folder)
    config = small_config.model_copy(update={"distance": DistanceConfig(covariance="position")})
    held_out = train(dataset, config=config, model=small_model).info.trained_with[-1].held_out_statistic
    without_it = train(dataset, config=config, model=small_model, train_parts=6)
    mask = read_mask(folder / "none.png", shape=(120, 160))
    views = dataset.parts[-1].pictures
    scores = [without_it.score_view(view, read_picture(views[view]), mask=mask).score for view in dataset.views]
    assert held_out == pytest.approx(sorted(scores)[-2], rel=1e-3)


def test_what_a_dataset_masks_is_neither_trained_nor_scored(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    """Whatever lies under the masks, threshold, models and figures are the same to the last bit."""
    found = []
    for seed in (1, 2):
        masked = mask_pictures(collected(tmp_path / f"data-{seed}", good=5, defective=1), seed=seed)
        trained = train(masked, config=small_config, model=small_model, train_parts=4)
        trained.save(tmp_path / f"model-{seed}")
        found.append((Inspector.load(tmp_path / f"model-{seed}"), evaluate(masked, trained)))
    (one, first), (two, second) = found
    assert one.info.masked and one.threshold == two.threshold and one.info.files == two.info.files
    assert first.parts == second.parts and first.part_auroc == second.part_auroc
    assert first.part_auroc is not None and first.part_auroc.value == 1
    assert one.info.trained_with[0].sha256 != two.info.trained_with[0].sha256


def test_masked_pictures_and_a_model_of_whole_ones_do_not_go_together(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, inspector: Inspector, tmp_path: Path
) -> None:
    whole = read_dataset(collected(tmp_path / "whole", good=3, defective=1, first=50))
    masked = mask_pictures(collected(tmp_path / "masked", good=3, defective=1), seed=1)
    with pytest.raises(DatasetError, match="masked: its pictures are masked, those that the model was trained on not"):
        evaluate(masked, inspector)
    trained = train(masked, config=small_config, model=small_model, train_parts=2)
    with pytest.raises(DatasetError, match="whole: its pictures are not masked, those that the model was trained on"):
        evaluate(whole, trained)


def test_a_mask_of_another_size_than_its_picture_is_named(
    collected: Write, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    masked = mask_pictures(collected(tmp_path / "data", good=3, defective=0), seed=1)
    trained = train(masked, config=small_config, model=small_model, train_parts=2)
    cv2.imwrite(str(tmp_path / "data" / "hand.png"), np.zeros((60, 80), dtype=np.uint8))
    with pytest.raises(PictureError, match=r"hand\.png: the mask is \(60, 80\), its picture \(120, 160\) pixels"):
        train(masked, config=small_config, model=small_model)
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
        train(changed, config=small_config, model=small_model)


def test_a_truncated_training_picture_is_named(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    shutil.copytree(dataset.folder, tmp_path / "copy")
    path = read_dataset(tmp_path / "copy").parts[2].pictures["back"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PictureError, match=path.name):
        train(read_dataset(tmp_path / "copy"), config=small_config, model=small_model)


def test_fewer_than_two_parts_are_refused(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    with pytest.raises(DatasetError, match="at least 2"):
        train(dataset, config=small_config, model=small_model, train_parts=1)


def test_two_parts_train_models_that_accept_nothing(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    train(dataset, config=small_config, model=small_model, train_parts=2).save(tmp_path / "m")
    inspector = Inspector.load(tmp_path / "m")
    assert [part.held_out_statistic for part in inspector.info.trained_with] == [None, None]
    assert inspector.decide({view: 0.0 for view in inspector.views}).anomalous


def test_photographs_are_taken_as_they_are(tmp_path: Path, mvtec: Write, small_model: ModelConfig, ring: Ring) -> None:
    folder = mvtec(tmp_path / "nut")
    cv2.imwrite(str(folder / "train/good/000.png"), cv2.resize(ring(seed=0), (180, 150)))
    inspector = train(read_dataset(folder), config=DetectionConfig(), model=small_model)
    config = inspector.info.config
    assert (config.preprocess.crop, config.vote.k, inspector.views) == ("none", 1, ("view",))
    assert config.preprocess.registration == "none"
    assert inspector.score_view("view", ring(seed=3)).geometry.box.width == 160
    with pytest.raises(DatasetError, match="cluster needs picture_width_mm"):
        position = DistanceConfig(covariance="position")
        cluster = DetectionConfig(distance=position, score=ScoreConfig(method="cluster"))
        train(read_dataset(folder), config=cluster, model=small_model)


def statistics_by_use(inspector: Inspector, use: str) -> dict[str, float | None]:
    return {part.part_id: part.held_out_statistic for part in inspector.info.trained_with if part.use == use}


def with_threshold(config: DetectionConfig, **threshold: object) -> DetectionConfig:
    return config.model_copy(update={"threshold": ThresholdConfig.model_validate(threshold)})


@pytest.fixture(scope="module")
def split(dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig) -> Inspector:
    config = with_threshold(small_config, method="split_conformal", alpha=0.25)
    return train(dataset, config=config, model=small_model)


def test_split_conformal_scores_parts_that_the_models_have_not_seen(
    split: Inspector, dataset: Dataset, tmp_path: Path
) -> None:
    calibration = statistics_by_use(split, "calibration")
    assert len(calibration) == 4 and len(statistics_by_use(split, "training")) == 6
    assert all(model.gaussians.pictures == 6 for model in split.models.values())
    for number, part in enumerate(dataset.parts[:10]):
        if part.part_id in calibration:
            scores = part_scores(split, dataset, number)
            assert calibration[part.part_id] == part_statistic(scores.values(), k=2)
    values = [value for value in calibration.values() if value is not None]
    assert split.threshold == split_conformal_threshold(values, alpha=0.25)
    assert str(split.info.guarantee).startswith("P(a good part is rejected) ≤ 0.25 over the draw of the 4 parts")
    split.save(tmp_path / "model")
    assert Inspector.load(tmp_path / "model").info.guarantee == split.info.guarantee


def test_the_seed_draws_the_parts_that_are_held_back(
    split: Inspector, dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    other = train(dataset, config=split.info.config, model=small_model.model_copy(update={"seed": 4}))
    assert statistics_by_use(other, "calibration").keys() != statistics_by_use(split, "calibration").keys()


def test_trimming_never_touches_the_parts_held_back(
    split: Inspector, dataset: Dataset, small_model: ModelConfig
) -> None:
    config = split.info.config.model_copy(update={"training": TrainingConfig(trim=0.1)})
    trimmed = train(dataset, config=config, model=small_model)
    assert statistics_by_use(trimmed, "calibration").keys() == statistics_by_use(split, "calibration").keys()
    assert len(statistics_by_use(trimmed, "trimmed")) == 1 and len(statistics_by_use(trimmed, "training")) == 5


def test_cross_conformal_raises_the_held_out_threshold(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    position = small_config.model_copy(update={"distance": DistanceConfig(covariance="position")})
    held_out = train(dataset, config=position, model=small_model, train_parts=7).info
    config = with_threshold(position, method="cross_conformal", alpha=0.2)
    cross = train(dataset, config=config, model=small_model, train_parts=7)
    statistics = [part.held_out_statistic or 0.0 for part in cross.info.trained_with]
    assert statistics == [part.held_out_statistic for part in held_out.trained_with]
    # The first part's pictures are those that the others are registered to: it is not like the others.
    assert cross.threshold == cross_conformal_threshold(statistics[1:], trained_with=7, alpha=0.2)
    assert cross.info.guarantee is not None and cross.info.guarantee.parts == 6


@pytest.mark.parametrize(
    "threshold, message",
    [
        ({"method": "split_conformal"}, "needs 19 good parts held back .* 10 are there, .* holds back 4"),
        ({"method": "split_conformal", "alpha": 0.5, "calibration_share": 0.9}, "at least 2 to train with"),
        ({"method": "cross_conformal"}, "needs 20 good parts, 10 are there"),
        ({"method": "middle_of_means"}, "no part is declared defective"),
        ({"method": "swept_grid"}, "no part is declared defective"),
    ],
)
def test_a_method_without_the_parts_it_needs_is_refused(
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    threshold: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(DatasetError, match=message):
        train(dataset, config=with_threshold(small_config, **threshold), model=small_model)


def test_cross_conformal_is_refused_where_rounding_would_break_it(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    config = with_threshold(small_config, method="cross_conformal", alpha=0.2)
    with pytest.raises(ModelError, match="float32"):
        train(dataset, config=config, model=small_model.model_copy(update={"precision": "bfloat16"}))


@pytest.fixture(scope="module")
def declared(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The three defective parts are declared so."""
    folder = tmp_path_factory.mktemp("declared") / "rings"
    shutil.copytree(dataset.folder, folder)
    table = (folder / "parts.csv").read_text()
    (folder / "parts.csv").write_text(table.replace(",,12.5", ",defective,12.5"))
    return read_dataset(folder)


@pytest.mark.parametrize("threshold", [{"method": "middle_of_means"}, {"method": "swept_grid", "grid_step": 0}])
def test_defective_parts_set_the_threshold_against_held_out_good_ones(
    inspector: Inspector,
    declared: Dataset,
    small_model: ModelConfig,
    threshold: dict[str, object],
) -> None:
    config = with_threshold(inspector.info.config, **threshold)
    trained = train(declared, config=config, model=small_model, train_parts=7)
    good, bad = statistics_by_use(trained, "training"), statistics_by_use(trained, "defective")
    assert good == statistics_by_use(inspector, "training")
    assert list(bad) == [part.part_id for part in declared.parts[10:]]
    highest_good, lowest_bad = (f(v for v in x.values() if v is not None) for f, x in ((max, good), (min, bad)))
    assert highest_good < trained.threshold <= lowest_bad
    if threshold["method"] == "swept_grid":
        assert trained.threshold == lowest_bad
        assert str(trained.info.guarantee).startswith("P(a defective part is accepted) ≤ 0.25")
    else:
        assert trained.info.guarantee is None


def test_a_bad_part_among_the_good_ones_is_trimmed(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "rings"
    shutil.copytree(dataset.folder, folder)
    table = (folder / "parts.csv").read_text()
    (folder / "parts.csv").write_text(table.replace("part-0010,lot,1,10,,", "part-0010,lot,1,10,good,"))
    bad_among_good = read_dataset(folder)
    config = small_config.model_copy(update={"training": TrainingConfig(trim=0.05)})
    told: list[tuple[str, int, int]] = []
    trimmed = train(bad_among_good, config=config, model=small_model, progress=lambda *step: told.append(step))
    assert [done for _, done, _ in told] == list(range(1, 64)) and {total for *_, total in told} == {63}
    assert list(statistics_by_use(trimmed, "trimmed")) == ["part-0010"]
    clean = train(dataset, config=small_config, model=small_model)
    assert statistics_by_use(trimmed, "training") == statistics_by_use(clean, "training")
    assert trimmed.threshold == clean.threshold and part_scores(trimmed, dataset, 11) == part_scores(clean, dataset, 11)


def test_trimming_needs_statistics(dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig) -> None:
    config = small_config.model_copy(update={"training": TrainingConfig(trim=0.5)})
    with pytest.raises(ModelError, match="trim leaves"):
        train(dataset, config=config, model=small_model, train_parts=2)


def test_cross_conformal_refuses_masked_pictures(
    dataset: Dataset, small_config: DetectionConfig, small_model: ModelConfig
) -> None:
    first, *others = dataset.parts
    masked = replace(first, ignored=dict.fromkeys(dataset.views, first.pictures["front"]))
    config = with_threshold(small_config, method="cross_conformal", alpha=0.2)
    with pytest.raises(DatasetError, match="without masks"):
        train(replace(dataset, parts=(masked, *others)), config=config, model=small_model)
