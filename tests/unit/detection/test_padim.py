import doctest
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

import detection
from detection import ModelError, PaDiM, PictureError
from detection.backbones import Backbone
from detection.gaussian import PositionGaussians
from detection.heatmap import smooth_heatmap
from detection.mahalanobis import reference_squared_mahalanobis

Ring = Callable[..., NDArray[np.uint8]]


def small(**options: Any) -> PaDiM:
    return PaDiM(**{"n_features": 10, "seed": 1, **options})


@pytest.fixture(scope="module")
def trained() -> PaDiM:
    rng = np.random.default_rng(0)
    return small().fit(rng.integers(90, 130, (256, 256, 3), dtype=np.uint8) for _ in range(5))


@pytest.fixture
def saved(trained: PaDiM, tmp_path: Path) -> Path:
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def test_the_package_docstring_is_a_working_example() -> None:
    assert doctest.testmod(detection).failed == 0


def test_a_heatmap_is_padim_by_the_book(ring: Ring, lite0: Backbone) -> None:
    pictures = [ring(seed=i) for i in range(6)]
    model = small().fit(pictures)
    heatmap = model.score(ring(seed=9, defect=True))

    def features(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        square = np.zeros((160, 160, 3), dtype=np.uint8)
        square[20:140] = picture
        resized = detection.preprocess.cv2.resize(square, (256, 256), interpolation=1)
        return lite0.features(resized[np.newaxis], channels=model.channels)[0].astype(np.float64)

    training = np.stack([features(picture) for picture in pictures])
    centred = training - training.mean(axis=0)
    covariance = np.einsum("npi,npj->pij", centred, centred) / 5 + 0.01 * np.eye(10)
    squared = reference_squared_mahalanobis(features(ring(seed=9, defect=True)) - training.mean(axis=0), covariance)
    distances = np.sqrt(squared).reshape(64, 64).astype(np.float32)
    expected = smooth_heatmap(distances, resolution=256)
    assert heatmap.shape == (256, 256) and heatmap.dtype == np.float32
    np.testing.assert_allclose(heatmap, expected, rtol=1e-3)


def test_the_defect_is_where_the_heatmap_is_hottest(ring: Ring) -> None:
    model = small(n_features=30).fit(ring(seed=i) for i in range(8))
    heatmap = model.score(ring(seed=50, defect=True))
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert abs(row - (16 + 20) * 1.6) < 16 and abs(column - 80 * 1.6) < 16
    assert heatmap.max() > 2 * model.score(ring(seed=51)).max()


def test_fit_takes_any_iterable_once(ring: Ring) -> None:
    seen = []

    def stream() -> Iterator[NDArray[np.uint8]]:
        for i in range(10):
            seen.append(i)
            yield ring(seed=i)

    streamed = small().fit(stream())
    listed = small().fit([ring(seed=i) for i in range(10)])
    assert seen == list(range(10)) and streamed.gaussians.pictures == 10
    np.testing.assert_array_equal(streamed.score(ring(seed=99)), listed.score(ring(seed=99)))


@pytest.mark.parametrize("covariance", ["position", "layer"])
def test_learning_in_parts_is_learning_at_once(ring: Ring, tmp_path: Path, covariance: str) -> None:
    pictures = [ring(seed=i) for i in range(9)]
    at_once = small(covariance=covariance).fit(pictures)
    small(covariance=covariance).partial_fit(pictures[:5]).save(tmp_path / "early")
    later = PaDiM.load(tmp_path / "early").partial_fit(pictures[5:])
    assert later.gaussians.pictures == 9
    np.testing.assert_allclose(later.score(ring(seed=99)), at_once.score(ring(seed=99)), rtol=1e-3)
    later.save(tmp_path / "later")
    again = PaDiM.load(tmp_path / "later")
    np.testing.assert_array_equal(again.score(ring(seed=99)), later.score(ring(seed=99)))


def test_a_failing_picture_leaves_the_model_as_it_was(ring: Ring) -> None:
    model = small().partial_fit(ring(seed=i) for i in range(5))
    before = model.score(ring(seed=99))
    with pytest.raises(PictureError):
        model.partial_fit([ring(seed=7), np.zeros((4, 4), dtype=np.float32)])  # type: ignore[list-item]
    np.testing.assert_array_equal(model.score(ring(seed=99)), before)
    model.partial_fit([])
    np.testing.assert_array_equal(model.score(ring(seed=99)), before)


def test_factors_alone_cannot_be_updated(ring: Ring, saved: Path) -> None:
    for model in (small().fit(ring(seed=i) for i in range(4)), PaDiM.load(saved)):
        with pytest.raises(ModelError, match="partial_fit from the first"):
            model.partial_fit([ring(seed=9)])


def test_a_damaged_training_state_is_refused(ring: Ring, tmp_path: Path) -> None:
    small().partial_fit(ring(seed=i) for i in range(3)).save(tmp_path / "model")
    state = tmp_path / "model" / "moments.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"moments\.safetensors"):
        PaDiM.load(tmp_path / "model")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.5])
def test_pixels_that_are_no_integers_are_refused(trained: PaDiM, wrong: float) -> None:
    with pytest.raises(PictureError, match="uint8 or uint16"):
        trained.score(np.full((256, 256, 3), wrong))  # type: ignore[arg-type]


def test_constant_pictures_have_defined_heatmaps() -> None:
    # Identical pictures have no covariance but the regularisation, so d² = |δ|² / 0.01.
    grey = np.full((256, 256, 3), 128, dtype=np.uint8)
    model = small().fit([grey, grey, grey])
    assert not model.score(grey).any()
    features = model.features(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    heatmap = model.gaussians.heatmap(features, sigma=4.0)
    assert isinstance(model.gaussians, PositionGaussians)
    distances = 10 * np.linalg.norm(features - model.gaussians.mean, axis=1)
    expected = smooth_heatmap(distances.reshape(64, 64).astype(np.float32), resolution=256)
    np.testing.assert_allclose(heatmap, expected, rtol=1e-4)


def test_a_model_computes_on_every_machine_as_where_it_was_trained(
    ring: Ring, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("detection.padim.fastest_arithmetic", lambda: "bfloat16")
    model = small(precision="bfloat16").fit(ring(seed=i) for i in range(4))
    model.save(tmp_path / "model")
    monkeypatch.setattr("detection.padim.fastest_arithmetic", lambda: "folded")
    again = PaDiM.load(tmp_path / "model")
    assert again.backbone.arithmetic == "bfloat16" and small(precision="bfloat16").config.network == "folded"
    np.testing.assert_array_equal(again.score(ring(seed=9)), model.score(ring(seed=9)))
    assert small(precision="float32").config.network == "folded"


def test_the_seed_picks_the_channels() -> None:
    first, second = small(), small(seed=2)
    assert len(set(first.channels)) == 10 and (np.diff(first.channels) > 0).all()
    assert first.channels[0] >= 0 and first.channels[-1] < 176
    np.testing.assert_array_equal(first.channels, small().channels)
    assert not np.array_equal(first.channels, second.channels)


@pytest.mark.parametrize("covariance", ["position", "layer"])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_are_refused(ring: Ring, count: int, covariance: str) -> None:
    with pytest.raises(ModelError, match="at least 2"):
        small(covariance=covariance).fit(ring(seed=i) for i in range(count))


def test_an_unusable_picture_is_named(ring: Ring) -> None:
    with pytest.raises(PictureError, match="picture 1"):
        small().fit([ring(seed=0), np.zeros((4, 4, 5), dtype=np.uint8)])


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 300}, {"backbone": "resnet50"}, {"precision": "float16"}, {"n_features": 0},
        {"n_features": 177}, {"epsilon": 0.0}, {"smoothing_sigma": 0.0}, {"smoothing_sigma": float("nan")},
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        small(**options)


def test_before_training_there_is_nothing_to_score_or_save(ring: Ring, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not been trained"):
        small().score(ring(seed=0))
    with pytest.raises(ModelError, match="not been trained"):
        small().save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loaded_model_scores_the_same(ring: Ring, tmp_path: Path, precision: str) -> None:
    model = small(precision=precision).fit(ring(seed=i) for i in range(4))
    model.save(tmp_path / "model")
    loaded = PaDiM.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.score(ring(seed=7)), model.score(ring(seed=7)))
    assert loaded.config == model.config


def test_bfloat16_scores_are_close_and_half_the_size(ring: Ring, tmp_path: Path) -> None:
    pictures = [ring(seed=i) for i in range(8)]
    full, half = (small(precision=precision).fit(pictures) for precision in ("float32", "bfloat16"))
    np.testing.assert_allclose(half.score(ring(seed=9)), full.score(ring(seed=9)), rtol=0.02)
    assert half.gaussians.factors.nbytes * 2 == full.gaussians.factors.nbytes


def test_training_twice_gives_identical_files(ring: Ring, tmp_path: Path) -> None:
    for name in ("first", "second"):
        small().fit(ring(seed=i) for i in range(4)).save(tmp_path / name)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_a_model_replaces_a_model(trained: PaDiM, saved: Path, ring: Ring) -> None:
    other = small(seed=5).fit(ring(seed=i) for i in range(3))
    other.save(saved)
    assert PaDiM.load(saved).config.seed == 5
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_folder_that_is_no_model_is_not_touched(trained: PaDiM, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(ModelError, match=r"thesis: exists and is not a model"):
        trained.save(tmp_path / "thesis")
    with pytest.raises(ModelError, match=r"chapter\.txt: exists and is not a model"):
        trained.save(tmp_path / "thesis" / "chapter.txt")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"
    assert len(list(tmp_path.rglob("*"))) == 2


def test_an_unwritable_place_is_named_and_nothing_left(trained: PaDiM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be written"):
        trained.save(tmp_path / "file" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_while_writing_leaves_the_old_model(
    trained: PaDiM, saved: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    before = trained.score(ring(seed=0))
    monkeypatch.setattr("detection.padim.write_tensors", disk_full)
    with pytest.raises(ModelError, match="No space left"):
        trained.save(saved)
    np.testing.assert_array_equal(PaDiM.load(saved).score(ring(seed=0)), before)
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["padim.json", "padim.safetensors", "backbone.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "empty"])
def test_damaged_models_are_refused_by_file(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"truncated": data[:-20], "foreign": b"\x80\x04pickle" + data[50:], "empty": b""}[damage])
    with pytest.raises(ModelError, match=name):
        PaDiM.load(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "other"),
        ("version", 1),
        ("pictures", 1),
        ("smoothing_sigma", float("nan")),
        ("surprise", 1),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(saved: Path, key: str, value: object) -> None:
    path = saved / "padim.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ModelError, match=r"padim\.json"):
        PaDiM.load(saved)


@pytest.mark.parametrize("change", ["shape", "type", "name", "channels"])
def test_tensors_that_do_not_fit_are_refused(saved: Path, change: str) -> None:
    path = saved / "padim.safetensors"
    tensors = load_file(path)
    if change == "shape":
        tensors["mean"] = tensors["mean"][:-1].copy()
    elif change == "type":
        tensors["factors"] = tensors["factors"].astype(np.float64)
    elif change == "name":
        tensors["extra"] = tensors["mean"]
    else:
        tensors["channels"] = tensors["channels"] + 170
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"padim\.safetensors"):
        PaDiM.load(saved)


@pytest.mark.parametrize("images", [np.zeros((64, 64, 3), np.uint8), [None], ["picture.png"], [[1, 2]]])
def test_what_is_no_series_of_pictures_is_refused(images: Any) -> None:
    with pytest.raises(PictureError, match=r"is one picture|expected an array of pixels"):
        PaDiM(n_features=4).fit(images)


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.inf, np.nan, 1e300])
def test_no_filter_is_that_wide(sigma: float) -> None:
    with pytest.raises(ModelError, match="smoothing_sigma"):
        PaDiM(smoothing_sigma=sigma)


def test_a_model_is_saved_again_where_a_link_leads(saved: Path, tmp_path: Path) -> None:
    model = PaDiM.load(saved)
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / ".real.replaced").mkdir()
    for _ in range(2):
        model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and PaDiM.load(tmp_path / "link").config == model.config


def test_files_of_others_are_not_lost_with_a_model(saved: Path, tmp_path: Path) -> None:
    model = PaDiM.load(saved)
    model.save(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"notes\.txt: is no part of a model and would be lost"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model" / "notes.txt").read_text() == "mine" and PaDiM.load(tmp_path / "model")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        PaDiM.load(tmp_path / "nowhere")


def test_others_may_read_a_saved_model(saved: Path) -> None:
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())


def test_detection_needs_no_other_package_of_the_house(tmp_path: Path) -> None:
    package = Path(detection.__file__).parent
    shutil.copytree(package, tmp_path / "detection", ignore=shutil.ignore_patterns("__pycache__"))
    script = "import sys; from detection import *; print(*{'cell', 'twin', 'scenarios', 'pybullet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
