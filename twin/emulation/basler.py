"""The twin's pictures in pylon's camera emulation, taken by the real driver."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.config import check
from cell.drivers.basler import BaslerCamera, BaslerConfig
from cell.interfaces import Frame, Intrinsics
from cell.setup import Setup
from twin.camera import TwinCamera, TwinCameraConfig

# pylon gives its first emulated camera this serial number.
_SERIAL = "0815-0000"
# Which channel (R, G, B) the pixels of the first two rows have, two by two.
_MOSAICS = {
    "BayerRG8": ((0, 1), (1, 2)),
    "BayerGR8": ((1, 0), (2, 1)),
    "BayerGB8": ((1, 2), (0, 1)),
    "BayerBG8": ((2, 1), (1, 0)),
}


def raw_picture(image: NDArray[np.uint8], pixel_format: str) -> NDArray[np.uint8]:
    """Return the pixels that a sensor of this format reads out where an ideal one would see `image`.

    Parameters
    ----------
    image : (H, W, 3) or (H, W) uint8
        RGB or grey.
    pixel_format : str
        Mono8, RGB8Packed, or a Bayer format of eight bits.

    Returns
    -------
    (H, W) or, for RGB8Packed, (H, W, 3) uint8
    """
    if pixel_format == "Mono8":
        return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    rgb = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    if pixel_format == "RGB8Packed":
        return rgb
    mosaic = np.empty(rgb.shape[:2], np.uint8)
    for row, channels in enumerate(_MOSAICS[pixel_format]):
        for column, channel in enumerate(channels):
            mosaic[row::2, column::2] = rgb[row::2, column::2, channel]
    return mosaic


class PylonEmulation:
    """A folder that pylon's emulated camera takes its pictures from, anew at every trigger; a context manager."""

    def __enter__(self) -> Self:
        # Read when pylon first looks for cameras; without it there is no emulated one.
        os.environ.setdefault("PYLON_CAMEMU", "1")
        self._folder = tempfile.TemporaryDirectory(prefix="pylon-")
        self._pictures = Path(self._folder.name) / "pictures"
        self._pictures.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def features(self, width: int, height: int) -> dict[str, int | float | str]:
        """Return what makes an emulated camera have a sensor of this size and show the folder's pictures."""
        return {
            # The sensor cannot be made smaller than the picture is.
            "Width": 16,
            "Height": 16,
            "WidthMax": width,
            "HeightMax": height,
            "TestImageSelector": "Off",
            "ImageFileMode": "On",
            "ImageFilename": str(self._pictures),
        }

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Let the next trigger take this picture (H, W) or (H, W, 3), RGB."""
        stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        # pylon keeps the picture of a name that comes twice in a row: it gets the same one under two.
        first, second = (Path(self._folder.name) / name for name in ("first.bmp", "second.bmp"))
        if not cv2.imwrite(str(first), stored):
            raise OSError(f"{first}: the picture could not be written")
        second.hardlink_to(first)
        for half in (first, second):
            half.replace(self._pictures / half.name)


class EmulatedBaslerConfig(TwinCameraConfig):
    """The twin's camera, and how the driver shall set the emulated one that shows its pictures."""

    driver: dict[str, Any] = Field(description="BaslerConfig, but for what the twin's camera says already")


class EmulatedBasler:
    """The unmodified Basler driver on pylon's emulated camera; see `cell.interfaces.Camera`.

    Before each trigger the twin's picture is placed where the emulated camera finds it. Frames have the twin's
    numbers, under which the truth about them is filed.
    """

    Config = EmulatedBaslerConfig

    def __init__(self, config: EmulatedBaslerConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self._twin = TwinCamera(config, setup)
        self._emulation = PylonEmulation()

    def __enter__(self) -> Self:
        calibrated = self._twin.intrinsics
        with ExitStack() as stack:
            stack.enter_context(self._emulation)
            stack.enter_context(self._twin)
            said = {
                "serial": _SERIAL,
                "intrinsics": calibrated,
                "exposure_us": self._config.exposure_us,
                "features": self._emulation.features(calibrated.width, calibrated.height),
            }
            where = f"{self._setup.order.cell.path}: camera.driver"
            config = check(said | self._config.driver, BaslerConfig, where)
            self._pixel_format = config.pixel_format
            black = np.zeros((calibrated.height, calibrated.width), np.uint8)
            self._emulation.show(raw_picture(black, self._pixel_format))
            self._driver = stack.enter_context(BaslerCamera(config, self._setup))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def serial(self) -> str:
        """The serial number."""
        return self._driver.serial

    @property
    def intrinsics(self) -> Intrinsics:
        """The calibration."""
        return self._driver.intrinsics

    @property
    def exposure_us(self) -> float:
        """Exposure time, microseconds."""
        return self._driver.exposure_us

    def capture(self) -> Frame:
        """Take one picture with the driver."""
        ideal = self._twin.capture()
        self._emulation.show(raw_picture(ideal.image, self._pixel_format))
        return replace(self._driver.capture(), number=ideal.number)

    def provoke(self, kind: str) -> bool:
        """Let the emulated camera fail at the next picture; False where this fault is not known here.

        Parameters
        ----------
        kind : str
            ``lost`` unplugs it, ``incomplete`` spoils one buffer, ``no trigger`` stops its acquisition.
        """
        camera = self._driver.instant_camera
        if kind == "lost":
            camera.FirePnPCallbackValue.Value = 1
        elif kind == "incomplete":
            camera.ForceFailedBufferCount.Value = camera.ForcedFailedBuffersRemaining.Value + 1
            camera.ForceFailedBuffer.Execute()
        elif kind == "no trigger":
            camera.AcquisitionStop.Execute()
        else:
            return False
        return True
