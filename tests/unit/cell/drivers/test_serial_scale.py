"""The scale driver on a pseudo-terminal with a speaking scale at its far end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

pytest.importorskip("serial", reason="pip install 'twinspect[hardware]'")

from cell.drivers.serial_scale import SerialScale, SerialScaleConfig
from cell.interfaces import DeviceTimeout, NotConnected, ProtocolError, ScaleOverload, ScaleUnstable
from twin.emulation.languages import LANGUAGES
from twin.emulation.serial_device import OnPan, SpeakingScale

SETUP = SimpleNamespace(now=lambda: 12.5)


@contextmanager
def scale_of(language: str, **changed) -> Iterator[tuple[SerialScale, SpeakingScale]]:
    mode = changed.get("mode", "request")
    with SpeakingScale(LANGUAGES[language], continuous=mode == "continuous") as far_end:
        dialect = language.removesuffix("-22")
        # A pseudo-terminal has eight bits and no parity, whatever it is set to.
        line = {"baud_rate": LANGUAGES[language].line_baud}
        settings = {"port": far_end.port, "dialect": dialect, "line": line, "timeout_s": 0.4} | changed
        with SerialScale(SerialScaleConfig.model_validate(settings), SETUP) as scale:
            yield scale, far_end


@pytest.mark.parametrize("mode", ["request", "continuous"])
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_weighs_and_tares_in_every_dialect(language, mode):
    with scale_of(language, mode=mode, timeout_s=5) as (scale, far_end):
        far_end.pan = OnPan(2.5)
        assert scale.weigh().mass_g == 2.5
        scale.tare()
        assert scale.weigh().mass_g == 0.0
        far_end.pan = OnPan(25.503)
        weighing = scale.weigh()
        assert (weighing.mass_g, weighing.stable, weighing.timestamp_s) == (23.003, True, 12.5)
        far_end.pan = OnPan(0.0)
        assert scale.weigh().mass_g == -2.5


@pytest.mark.parametrize("mode", ["request", "continuous"])
def test_waits_for_a_reading_that_settles(mode):
    with scale_of("kern", mode=mode, timeout_s=5) as (scale, far_end):
        far_end.pan = OnPan(20.0, "unstable")
        settle = threading.Timer(0.2, lambda: setattr(far_end, "pan", OnPan(23.003)))
        settle.start()
        assert scale.weigh().mass_g == 23.003
        settle.join()


@pytest.mark.parametrize("mode", ["request", "continuous"])
@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_says_what_is_wrong(language, mode):
    with scale_of(language, mode=mode) as (scale, far_end):
        far_end.pan = OnPan(23.0, "unstable")
        with pytest.raises(ScaleUnstable, match="did not settle"):
            scale.weigh()
        far_end.pan = OnPan(23.0, "overload")
        # KERN says the same word for an overload as for every other error.
        with pytest.raises(ProtocolError if language == "kern" else ScaleOverload):
            scale.weigh()
        far_end.pan = OnPan(23.0, "error")
        with pytest.raises(ProtocolError, match="reports an error"):
            scale.weigh()
        far_end.pan = OnPan(23.0)
        assert scale.weigh().mass_g == 23.0


@pytest.mark.parametrize("mode", ["request", "continuous"])
def test_silence_and_garbage(mode):
    with scale_of("mt-sics", mode=mode) as (scale, far_end):
        far_end.silent = True
        with pytest.raises(DeviceTimeout, match="said nothing"):
            scale.weigh()
        far_end.silent = False
        far_end.noise = b"\x00\xfe7.1\r\n"
        with pytest.raises(ProtocolError, match=r"which is no MT-SICS .*9600 baud"):
            scale.weigh()
        far_end.noise = b"\xff" * 500
        with pytest.raises(ProtocolError, match="which is no MT-SICS"):
            scale.weigh()
        far_end.noise = None
        far_end.pan = OnPan(1.0)
        assert scale.weigh().mass_g == 1.0


def test_scale_that_nobody_listens_to_goes_on():
    with scale_of("mt-sics") as (scale, far_end):
        far_end.send(b"\xff" * 100_000)
        far_end.pan = OnPan(1.0)
        assert scale.weigh().mass_g == 1.0


def test_wrong_baud_rate_is_never_a_mass():
    with scale_of("a-and-d", mode="continuous", line={"baud_rate": 9600}) as (scale, far_end):
        far_end.pan = OnPan(23.0)
        with pytest.raises(ProtocolError, match="dialect, and 9600 baud"):
            scale.weigh()
    # The scale does not understand that it is asked.
    with (
        scale_of("a-and-d", line={"baud_rate": 9600}) as (scale, _),
        pytest.raises((DeviceTimeout, ProtocolError), match="baud"),
    ):
        scale.weigh()


def test_records_may_come_in_pieces():
    with scale_of("kern", timeout_s=5) as (scale, far_end):
        far_end.silent = True
        record = LANGUAGES["kern"].say(23.003, "stable")

        def dribble() -> None:
            for byte in record:
                far_end.send(bytes([byte]))
                time.sleep(0.005)

        pieces = threading.Timer(0.1, dribble)
        pieces.start()
        assert scale.weigh().mass_g == 23.003
        pieces.join()


def test_port_that_vanishes_comes_back():
    with scale_of("mt-sics") as (scale, far_end):
        far_end.pan = OnPan(5.0)
        assert scale.weigh().mass_g == 5.0
        far_end.unplug()
        for _ in range(2):
            with pytest.raises(NotConnected, match=r"port (is gone|cannot be opened)"):
                scale.weigh()
        far_end.plug_in()
        assert scale.weigh().mass_g == 5.0


def test_port_that_is_not_there(tmp_path):
    config = SerialScaleConfig(port=str(tmp_path / "none"), dialect="kern")
    with pytest.raises(NotConnected, match="none cannot be opened"):
        SerialScale(config, SETUP).__enter__()


def test_scale_without_a_tare_command_is_tared_by_subtraction():
    silent_about_tare = {"title": "x", "stable": r"ST,(?P<sign>[+-])(?P<value>[\d.]+) *(?P<unit>g)"}
    with scale_of("a-and-d", mode="continuous", dialect=silent_about_tare) as (scale, far_end):
        far_end.pan = OnPan(2.5)
        scale.tare()
        far_end.pan = OnPan(25.503)
        assert scale.weigh().mass_g == 23.003


def test_load_that_cannot_be_tared_is_an_error():
    with scale_of("kern") as (scale, far_end):
        far_end.pan = OnPan(5.0)
        far_end.deaf_to_tare = True
        with pytest.raises(ScaleUnstable, match=r"still stands at 5\.0 g while taring"):
            scale.tare()


def test_dialect_by_name_is_refused_where_there_is_none():
    with pytest.raises(ValidationError, match=r"no file volapuk.*known names:.*kern"):
        SerialScaleConfig(port="/dev/null", dialect="volapuk")


def test_scale_that_cannot_be_asked_must_send_by_itself():
    only_sends = {"title": "x", "stable": r"(?P<sign>[+-])(?P<value>[\d.]+)(?P<unit>g)"}
    with pytest.raises(ValidationError, match="x knows no request"):
        SerialScaleConfig(port="/dev/null", dialect=only_sends)
