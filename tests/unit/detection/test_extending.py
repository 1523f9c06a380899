"""Candidates: models that learn from more parts, and the threshold that they get."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from detection import DatasetError, DetectionConfig, Inspector, ModelError, extend, held_out_threshold, train
from detection.config import DistanceConfig, ThresholdConfig
from detection.storage import sha256_of_file

EARLIER = 6


@pytest.fixture(scope="module")
def good(dataset):
    return dataset.training_parts()


@pytest.fixture(scope="module")
def parent(dataset, small_config, small_model, tmp_path_factory):
    """A model of the first parts that keeps its training state."""
    folder = tmp_path_factory.mktemp("parent") / "model"
    train(dataset, folder, config=small_config, model=small_model, train_parts=EARLIER, keep_state=True)
    return folder


def candidate_of(parent, parts, folder, **options):
    names = {part.part_id: "Erika" for part in parts}
    return extend(parent, folder, parts, confirmed_by=names, made_by="Max", **options)


@pytest.fixture(scope="module")
def candidate(parent, good, tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidate") / "model"
    return candidate_of(parent, good[EARLIER:], folder), folder


def test_is_what_training_with_all_parts_gives(dataset, good, small_config, small_model, ring, tmp_path):
    config = small_config.model_copy(update={"distance": DistanceConfig(covariance="position")})
    train(dataset, tmp_path / "parent", config=config, model=small_model, train_parts=EARLIER, keep_state=True)
    extended = candidate_of(tmp_path / "parent", good[EARLIER:], tmp_path / "candidate")
    whole = train(dataset, config=config, model=small_model)
    for view in whole.views:
        new, old = (inspector.score_view(view, ring(seed=999, defect=True)) for inspector in (extended, whole))
        np.testing.assert_allclose(new.heatmap, old.heatmap, rtol=1e-3, atol=1e-3)
    statistics = [[p.held_out_statistic for p in i.info.trained_with] for i in (extended, whole)]
    # The new parts are held out from the same models; the earlier ones from models of fewer parts.
    assert statistics[0][EARLIER:] == pytest.approx(statistics[1][EARLIER:], rel=1e-3)
    assert statistics[0][:EARLIER] != pytest.approx(statistics[1][:EARLIER], rel=1e-3)


@pytest.mark.parametrize(("alike", "layer"), [(0.75, 0), (2.0, 2)])
def test_a_layer_learns_on_and_is_counted_as_before(
    alike, layer, dataset, good, small_config, small_model, tmp_path, monkeypatch
):
    """Even where the candidate would choose another one."""
    config = small_config.model_copy(update={"distance": DistanceConfig(covariance="layer")})
    monkeypatch.setattr("detection.layer._ALIKE", alike)
    train(dataset, tmp_path / "parent", config=config, model=small_model, train_parts=EARLIER, keep_state=True)
    whole = train(dataset, config=config, model=small_model)
    monkeypatch.setattr("detection.layer._ALIKE", 0.75)
    extended = candidate_of(tmp_path / "parent", good[EARLIER:], tmp_path / "candidate")
    before = Inspector.load(tmp_path / "parent")
    for view in whole.views:
        new, old, parent = (each.models[view].gaussians for each in (extended, whole, before))
        one, other = new.positions.factors, old.positions.factors
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-3 * np.abs(other).max())
        assert new.layer == parent.layer == layer and new.unit == parent.unit
    statistics = [part.held_out_statistic for part in extended.info.trained_with]
    assert all(np.isfinite(statistics)) and extended.threshold == held_out_threshold(statistics, alpha=0.05)


def test_of_two_parts_none_was_held_out_for_a_unit_to_keep(dataset, good, small_config, small_model, tmp_path):
    config = small_config.model_copy(update={"distance": DistanceConfig(covariance="layer")})
    train(dataset, tmp_path / "parent", config=config, model=small_model, train_parts=2, keep_state=True)
    extended = candidate_of(tmp_path / "parent", good[2:], tmp_path / "candidate")
    whole = train(dataset, config=config, model=small_model)
    for view in whole.views:
        new, old = (each.models[view].gaussians for each in (extended, whole))
        assert new.unit == pytest.approx(old.unit, rel=0.3) and new.unit != pytest.approx(24**0.5)


def test_threshold_is_of_parts_that_no_model_had_seen_that_scored_them(candidate, parent, small_config):
    extended, _ = candidate
    before = Inspector.load(parent).info
    held_out = [part.held_out_statistic for part in extended.info.trained_with]
    assert held_out[:EARLIER] == [part.held_out_statistic for part in before.trained_with]
    assert extended.threshold == held_out_threshold(held_out, alpha=small_config.threshold.alpha)
    assert extended.info.guarantee is None and extended.info.config.threshold.method == "held_out"


def test_says_what_it_was_made_of(candidate, parent, good):
    extended, folder = candidate
    said = Inspector.load(folder, verify=True).info.extends
    assert said == extended.info.extends
    assert said.parent == sha256_of_file(parent / "inspector.json") and said.made_by == "Max"
    assert said.confirmed_by == {part.part_id: "Erika" for part in good[EARLIER:]}
    assert Inspector.load(parent).info.extends is None


def test_can_be_extended_again(candidate, good, tmp_path):
    _, folder = candidate
    once_more = [replace(good[0], part_id="again")]
    again = candidate_of(folder, once_more, tmp_path / "again")
    assert again.models["front"].gaussians.pictures == len(good) + 1
    assert again.info.extends.parent == sha256_of_file(folder / "inspector.json")


def test_without_training_state_it_is_refused_with_the_remedy(parent, good, tmp_path):
    shutil.copytree(parent, tmp_path / "bare")
    description = json.loads((tmp_path / "bare" / "inspector.json").read_text())
    (tmp_path / "bare" / "views" / "back" / "moments.safetensors").unlink()
    del description["files"]["views/back/moments.safetensors"]
    (tmp_path / "bare" / "inspector.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match=r"views/back: keeps no training state.*--keep-state"):
        candidate_of(tmp_path / "bare", good[EARLIER:], tmp_path / "candidate")
    assert not (tmp_path / "candidate").exists()


def test_a_changed_file_is_refused(parent, good, tmp_path):
    shutil.copytree(parent, tmp_path / "changed")
    file = tmp_path / "changed" / "views" / "side" / "moments.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelError, match="is not what was saved"):
        candidate_of(tmp_path / "changed", good[EARLIER:], tmp_path / "candidate")


def test_what_does_not_fit_is_refused(parent, good, tmp_path, dataset):
    with pytest.raises(DatasetError, match="no part to extend it with"):
        candidate_of(parent, [], tmp_path / "candidate")
    with pytest.raises(ModelError, match="another folder"):
        candidate_of(parent, good[EARLIER:], parent)
    part = good[EARLIER]
    masked = replace(part, ignored=dict(part.pictures))
    with pytest.raises(DatasetError, match="have masks, unlike those"):
        candidate_of(parent, [masked], tmp_path / "candidate")


def test_threshold_of_defective_parts_is_refused(collected, small_model, tmp_path):
    from detection import read_dataset

    folder = collected(tmp_path / "rings", good=4, defective=2)
    table = (folder / "parts.csv").read_text().replace(",,12.5", ",defective,12.5")
    (folder / "parts.csv").write_text(table)
    dataset = read_dataset(folder)
    config = DetectionConfig(threshold=ThresholdConfig(method="swept_grid"))
    train(dataset, tmp_path / "model", config=config, model=small_model, keep_state=True)
    with pytest.raises(ModelError, match="set by defective parts"):
        candidate_of(tmp_path / "model", dataset.training_parts(), tmp_path / "candidate")
