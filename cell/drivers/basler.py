"""Basler cameras, through the vendor's pylon."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pypylon import genicam, pylon

from cell.interfaces import ConfigError, DeviceError, DeviceTimeout, Frame, GrabFailed, Intrinsics, NotConnected
from cell.schema import FileModel
from cell.setup import Setup

# One is filled while the other is read: a 20 MP colour picture takes 60 MB.
_BUFFERS = 2
_POLL_S = 0.001


class BaslerConfig(FileModel):
    """Which camera, and how it is set. What is not given here stays as the camera has it."""

    serial: str | None = Field(None, description="the camera's serial number")
    user_name: str | None = Field(None, description="or the name that a person gave it (DeviceUserID)")
    intrinsics: Intrinsics = Field(description="calibration in pixels; its width and height are those of the picture")
    offset_x: int = Field(0, ge=0, description="of the picture on the sensor, pixels")
    offset_y: int = Field(0, ge=0)
    pixel_format: str = Field(description="pylon's name: Mono8 gives grey pictures, a Bayer or RGB format RGB ones")
    exposure_us: float = Field(gt=0, le=1e7)
    gain_db: float | None = Field(None, ge=0, le=48)
    packet_size_bytes: int | None = Field(None, ge=220, le=16404, description="GigE; 9000 needs jumbo frames")
    packet_delay_ticks: int | None = Field(None, ge=0, description="GigE: pause between packets, camera ticks")
    socket_buffer_kib: int | None = Field(None, ge=64, le=1_048_576, description="GigE: receive buffer")
    features: dict[str, int | float | str] = Field(
        default_factory=dict, description="further features of the camera by their GenICam names, set first, in order"
    )
    timeout_s: float = Field(5.0, gt=0, le=60, description="from the trigger until the whole picture is here")
    retries: int = Field(2, ge=0, le=10, description="how often an incomplete picture is taken again")

    @model_validator(mode="after")
    def _one_camera_is_meant(self) -> Self:
        if (self.serial is None) == (self.user_name is None):
            raise ValueError("give either serial or user_name")
        return self


class BaslerCamera:
    """A Basler camera, triggered by software; see `cell.interfaces.Camera`.

    Notes
    -----
    An incomplete picture is taken again, and `Frame.retries` counts it. After any other failure the camera is
    closed; the next `capture` opens and sets it anew, so a camera that was unplugged or restarted comes back.
    """

    Config = BaslerConfig

    def __init__(self, config: BaslerConfig, setup: Setup) -> None:
        self._config = config
        self._now = setup.now
        self._camera: Any = None
        self._ready: Any = None
        self._serial = config.serial or ""
        self._exposure_us = config.exposure_us
        self._taken = 0

    def __enter__(self) -> Self:
        self._open("connecting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def serial(self) -> str:
        """The serial number."""
        return self._serial

    @property
    def intrinsics(self) -> Intrinsics:
        """The calibration."""
        return self._config.intrinsics

    @property
    def exposure_us(self) -> float:
        """Exposure time as the camera rounded it, microseconds."""
        return self._exposure_us

    @property
    def instant_camera(self) -> Any:
        """The camera as pylon knows it, for what this driver does not cover; None while the camera is closed."""
        return self._camera

    def capture(self) -> Frame:
        """Take one picture.

        Raises
        ------
        GrabFailed
            Every try brought an incomplete picture; says what pylon said.
        DeviceTimeout
            No picture came.
        NotConnected
            The camera is gone, and was not back yet.
        """
        doing = f"grabbing frame {self._taken}"
        if self._camera is None:
            self._open(doing)
        timestamp = self._now()
        try:
            image, retries = self._grab(doing)
        except genicam.GenericException as error:
            lost, timed_out = self._camera.IsCameraDeviceRemoved(), isinstance(error, genicam.TimeoutException)
            self._close()
            if lost:
                raise self._gone(doing) from error
            if timed_out:
                raise DeviceTimeout(
                    "camera", doing, _said(error), "look at its trigger settings and the network"
                ) from error
            raise GrabFailed("camera", doing, _said(error), "look at the camera and its cable") from error
        except DeviceError:
            self._close()
            raise
        number, self._taken = self._taken, self._taken + 1
        return Frame(image, timestamp, self._exposure_us, self._serial, number, retries)

    def _grab(self, doing: str) -> tuple[NDArray[np.uint8], int]:
        """Return a picture and how many incomplete ones came before it."""
        camera, timeout_ms = self._camera, round(self._config.timeout_s * 1000)
        # pylon knows that a camera went away before the next call to it fails.
        if camera.IsCameraDeviceRemoved():
            raise self._gone(doing)
        said = ""
        for retries in range(self._config.retries + 1):
            self._wait_until_ready(doing)
            camera.ExecuteSoftwareTrigger()
            with camera.RetrieveResult(timeout_ms, pylon.TimeoutHandling_ThrowException) as result:
                if result.GrabSucceeded():
                    return self._pixels(result), retries
                said = result.GetErrorDescription().rstrip(". ")
        raise GrabFailed(
            "camera",
            doing,
            f"{said} ({self._config.retries + 1} times)",
            "give a larger packet delay, or a smaller packet size, in the cell file, and look at the network",
        )

    def _wait_until_ready(self, doing: str) -> None:
        """Wait until a trigger would be obeyed, with a time limit that holds whatever state the camera is in."""
        deadline = time.monotonic() + self._config.timeout_s
        while self._ready is not None and not self._ready.GetValue():
            if time.monotonic() > deadline:
                raise DeviceTimeout("camera", doing, "it is not ready for a trigger", "look at its trigger settings")
            time.sleep(_POLL_S)

    def _gone(self, doing: str) -> NotConnected:
        return NotConnected("camera", doing, f"camera {self._serial} is gone", "look at its cable and power")

    def _pixels(self, result: Any) -> NDArray[np.uint8]:
        converter = self._converter
        if converter.ImageHasDestinationFormat(result):
            return np.asarray(result.GetArray(), np.uint8)
        return np.asarray(converter.Convert(result).GetArray(), np.uint8)

    def _open(self, doing: str) -> None:
        wanted, factory = pylon.DeviceInfo(), pylon.TlFactory.GetInstance()
        if self._config.serial is not None:
            wanted.SetSerialNumber(self._config.serial)
        else:
            wanted.SetUserDefinedName(self._config.user_name)
        try:
            camera = pylon.InstantCamera(factory.CreateFirstDevice(wanted))
            camera.RegisterConfiguration(
                pylon.SoftwareTriggerConfiguration(), pylon.RegistrationMode_ReplaceAll, pylon.Cleanup_Delete
            )
            camera.Open()
        except genicam.GenericException as error:
            seen = ", ".join(info.GetSerialNumber() for info in factory.EnumerateDevices()) or "none"
            raise NotConnected(
                "camera",
                doing,
                f"{self._config.serial or self._config.user_name} cannot be opened: {_said(error)}",
                f"look at its power and network, and whether another program uses it; cameras seen: {seen}",
            ) from error
        self._camera = camera
        try:
            self._set_up(camera)
            camera.MaxNumBuffer.Value = _BUFFERS
            camera.StartGrabbing(pylon.GrabStrategy_OneByOne)
        except BaseException as error:
            self._close()
            if isinstance(error, genicam.GenericException):
                raise GrabFailed("camera", doing, _said(error), "switch it off and on again") from error
            raise

    def _set_up(self, camera: Any) -> None:
        config, nodes = self._config, camera.GetNodeMap()
        self._serial = camera.GetDeviceInfo().GetSerialNumber()
        for name, value in config.features.items():
            _set(nodes, name, value)
        _set(nodes, "PixelFormat", config.pixel_format)
        # Any size fits at the corner; only then can the picture be moved.
        for name, value in (
            ("OffsetX", 0),
            ("OffsetY", 0),
            ("Width", config.intrinsics.width),
            ("Height", config.intrinsics.height),
            ("OffsetX", config.offset_x),
            ("OffsetY", config.offset_y),
        ):
            _set(nodes, name, value)
        for name in ("ExposureAuto", "GainAuto", "BalanceWhiteAuto"):
            if genicam.IsWritable(nodes.GetNode(name)):
                _set(nodes, name, "Off")
        # Older cameras have exposure under another name.
        exposure = next((name for name in ("ExposureTime", "ExposureTimeAbs") if nodes.GetNode(name)), "ExposureTime")
        _set(nodes, exposure, config.exposure_us)
        self._exposure_us = float(nodes.GetNode(exposure).GetValue())
        for name, wanted in (
            ("Gain", config.gain_db),
            ("GevSCPSPacketSize", config.packet_size_bytes),
            ("GevSCPD", config.packet_delay_ticks),
        ):
            if wanted is not None:
                _set(nodes, name, wanted)
        if config.socket_buffer_kib is not None:
            _set(camera.GetStreamGrabberNodeMap(), "SocketBufferSize", config.socket_buffer_kib)
        self._ready = nodes.GetNode("AcquisitionStatus")
        if genicam.IsReadable(self._ready):
            _set(nodes, "AcquisitionStatusSelector", "FrameTriggerWait")
        else:
            self._ready = None
        self._converter = pylon.ImageFormatConverter()
        grey = config.pixel_format.startswith("Mono")
        self._converter.OutputPixelFormat = pylon.PixelType_Mono8 if grey else pylon.PixelType_RGB8packed

    def _close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.Close()
            camera.DestroyDevice()


def _set(nodes: Any, name: str, value: float | str) -> None:
    node = nodes.GetNode(name)
    if not genicam.IsWritable(node):
        raise ConfigError(f"camera: {name} = {value}: this camera has no such feature, or it cannot be changed")
    try:
        node.FromString(str(value))
    except genicam.GenericException as error:
        raise ConfigError(f"camera: {name} = {value}: {_said(error)}") from error


def _said(error: Exception) -> str:
    """Return what pylon said, without where in its own code it did."""
    return str(error).rsplit(" : ", 1)[0].rstrip(". ")
