"""The Basler driver on pylon's own camera emulation."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pypylon", reason="pip install 'twinspect[hardware]'")

from cell.drivers.basler import BaslerCamera, BaslerConfig
from cell.interfaces import ConfigError, DeviceTimeout, GrabFailed, NotConnected
from twin.emulation.basler import PylonEmulation, raw_picture

SETUP = SimpleNamespace(now=time.monotonic)


def config(width: int = 320, height: int = 240, **changed) -> BaslerConfig:
    settings = {
        "serial": "0815-0000",
        "pixel_format": "Mono8",
        "exposure_us": 1000,
        "timeout_s": 2,
        "intrinsics": {"fx": 900, "fy": 900, "cx": width / 2, "cy": height / 2, "width": width, "height": height},
    }
    return BaslerConfig.model_validate(settings | changed)


@pytest.fixture
def emulation():
    with PylonEmulation() as running:
        yield running


@pytest.fixture
def camera(emulation):
    with BaslerCamera(config(), SETUP) as connected:
        yield connected


def noise(height: int, width: int, seed: int, channels: int | None = None) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fail(camera: BaslerCamera, buffers: int) -> None:
    camera.instant_camera.ForceFailedBufferCount.Value = buffers
    camera.instant_camera.ForceFailedBuffer.Execute()


@pytest.mark.parametrize(
    "width, height, pixel_format, pictures",
    [(5472, 3648, "Mono8", 3), (304, 228, "Mono8", 5), (304, 228, "RGB8Packed", 3)],
)
def test_pictures_arrive_bit_exact_each_at_its_trigger(emulation, width, height, pixel_format, pictures):
    channels = 3 if pixel_format == "RGB8Packed" else None
    shown = [noise(height, width, seed, channels) for seed in range(pictures)]
    emulation.show(shown[0])
    features = emulation.features(width, height)
    with BaslerCamera(config(width, height, pixel_format=pixel_format, features=features), SETUP) as camera:
        frames = []
        for picture in shown:
            emulation.show(picture)
            frames.append(camera.capture())
    for picture, frame in zip(shown, frames, strict=True):
        assert frame.image.dtype == np.uint8
        np.testing.assert_array_equal(frame.image, picture)
    assert [frame.number for frame in frames] == list(range(pictures))
    assert {frame.serial for frame in frames} == {"0815-0000"} and {frame.retries for frame in frames} == {0}


@pytest.mark.parametrize("pixel_format", ["BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8"])
def test_mosaic_becomes_the_colours_that_it_was_made_of(emulation, pixel_format):
    # What varies slowly survives a mosaic; where each channel has its own slope, mixed up ones would show.
    rows, columns = np.mgrid[0:120, 0:160]
    rgb = np.stack([40 + columns, 30 + rows, 200 - (rows + columns) // 2], axis=2).astype(np.uint8)
    emulation.show(raw_picture(rgb, pixel_format))
    features = emulation.features(160, 120)
    with BaslerCamera(config(160, 120, pixel_format=pixel_format, features=features), SETUP) as camera:
        image = camera.capture().image
    assert image.shape == (120, 160, 3)
    assert np.abs(image[4:-4, 4:-4].astype(int) - rgb[4:-4, 4:-4]).max() <= 3


def test_settings_reach_the_camera(emulation):
    wanted = config(
        exposure_us=1234, gain_db=3.0, packet_size_bytes=1400, packet_delay_ticks=700, offset_x=64, offset_y=32
    )
    with BaslerCamera(wanted, SETUP) as camera:
        inside = camera.instant_camera
        assert camera.exposure_us == inside.ExposureTime.Value == pytest.approx(1234, abs=20)
        assert inside.Gain.Value == pytest.approx(3.0, abs=0.1)
        assert (inside.GevSCPSPacketSize.Value, inside.GevSCPD.Value) == (1400, 700)
        assert (inside.Width.Value, inside.Height.Value, inside.OffsetX.Value, inside.OffsetY.Value) == (
            320,
            240,
            64,
            32,
        )
        assert camera.capture().exposure_us == camera.exposure_us


def test_incomplete_pictures_are_taken_again_and_counted(camera):
    fail(camera, 2)
    assert camera.capture().retries == 2
    assert camera.capture().retries == 0


def test_too_many_incomplete_pictures_are_an_error_in_pylons_words(camera):
    fail(camera, 3)
    with pytest.raises(GrabFailed, match=r"The buffer was incompletely grabbed \(3 times\).*packet delay"):
        camera.capture()
    assert camera.capture().retries == 0


def test_lost_camera_comes_back_with_its_settings(camera):
    before = camera.capture()
    camera.instant_camera.FirePnPCallbackValue.Value = 1
    with pytest.raises(NotConnected, match="0815-0000 is gone while grabbing frame 1"):
        camera.capture()
    after = camera.capture()
    assert after.image.shape == before.image.shape and after.exposure_us == before.exposure_us
    assert after.number == before.number + 1


def test_camera_that_takes_no_picture_is_an_error_and_is_set_up_anew(emulation):
    with BaslerCamera(config(timeout_s=0.2), SETUP) as camera:
        camera.instant_camera.AcquisitionStop.Execute()
        with pytest.raises(DeviceTimeout, match="not ready for a trigger"):
            camera.capture()
        assert camera.capture().image.shape == (240, 320)


def test_camera_that_is_not_there_is_named_beside_those_that_are(emulation):
    with pytest.raises(NotConnected, match=r"40123456 cannot be opened: No device.*cameras seen: .*0815-0000"):
        BaslerCamera(config(serial="40123456"), SETUP).__enter__()


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"pixel_format": "Mono7"}, "PixelFormat = Mono7"),
        ({"features": {"Sharpnes": 3}}, "Sharpnes = 3: this camera has no such feature"),
        ({"offset_x": 100_000}, "OffsetX = 100000: Value = 100000 must be equal or smaller"),
        ({"socket_buffer_kib": 2048}, "SocketBufferSize"),
    ],
)
def test_setting_that_the_camera_refuses_is_named(emulation, changed, said):
    with pytest.raises(ConfigError, match=said):
        BaslerCamera(config(**changed), SETUP).__enter__()
    with BaslerCamera(config(), SETUP) as camera:
        assert camera.capture().number == 0


@pytest.mark.parametrize("changed", [{"serial": None}, {"user_name": "left"}])
def test_exactly_one_camera_is_meant(changed):
    with pytest.raises(ValueError, match="either serial or user_name"):
        config(**changed)
