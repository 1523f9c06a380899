"""The stand-ins behind the real drivers."""

from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pypylon", reason="pip install 'twinspect[hardware]'")

from cell.config import load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.setup import Order, open_cell
from twin.emulation.basler import raw_picture
from twin.emulation.serial_device import heard_at


@given(st.binary(max_size=30), st.sampled_from([1200, 9600, 115200]))
def test_equal_rates_are_heard_as_sent(data, baud):
    assert heard_at(data, sent_baud=baud, heard_baud=baud) == data


@given(st.binary(min_size=1, max_size=30))
def test_clocks_that_differ_by_a_fifth_are_not_understood_but_by_two_per_cent_they_are(data):
    # At the middle of the last bit, 9.5 bits after the edge, 5 % is half a bit: what a UART forgives.
    assert heard_at(data, sent_baud=9600, heard_baud=9792) == data
    assert len(heard_at(data, sent_baud=9600, heard_baud=2400)) <= len(data)


def test_a_slow_receiver_sees_few_and_other_bytes():
    # U is 01010101 from the lowest bit on: with its frame a square wave, of which a receiver of half the rate sees
    # every second level.
    heard = heard_at(b"UUUUUUUU", sent_baud=9600, heard_baud=4800)
    assert heard and set(heard) != {ord("U")}


@pytest.mark.parametrize(
    "pixel_format, first", [("BayerRG8", 10), ("BayerGR8", 20), ("BayerGB8", 20), ("BayerBG8", 30)]
)
def test_mosaic_takes_each_channel_where_its_filter_is(pixel_format, first):
    rgb = np.empty((4, 6, 3), np.uint8)
    rgb[:] = (10, 20, 30)
    mosaic = raw_picture(rgb, pixel_format)
    assert mosaic.shape == (4, 6) and mosaic[0, 0] == first
    assert np.unique(mosaic, return_counts=True)[1].tolist() == [6, 12, 6]


def test_driver_delivers_what_the_twin_rendered(sensors_cell, small_cell):
    order = Order(sensors_cell(), load_part("ring"), load_production("good"), range(1), 3)
    twin = Order(small_cell("twin"), load_part("ring"), load_production("good"), range(1), 3)
    frames = []
    for each in (order, twin):
        with open_cell(each) as cell:
            cell.source.next()
            frames.append(cell.camera.capture())
    emulated, rendered = frames
    np.testing.assert_array_equal(emulated.image, rendered.image)
    assert emulated.number == rendered.number and emulated.serial != rendered.serial


@pytest.mark.parametrize("arm", ["its own", "the twin's"])
def test_part_with_a_defect_is_placed_by_the_views_of_the_emulated_camera(arm, small_cell, sensors_cell):
    cell_file = sensors_cell() if arm == "the twin's" else small_cell("emulated")
    order = Order(cell_file, load_part("ring"), load_production("mixed"), range(1, 2), 3)
    with ExitStack() as stack:
        try:
            cell = stack.enter_context(open_cell(order))
        except ConfigError as error:
            if "C compiler" not in str(error):
                raise
            pytest.skip(str(error))
        assert cell.source.next().part_id == "mixed-00001"


def test_emulated_cell_differs_from_the_twin_by_its_devices_alone():
    twin, emulated = load_cell("twin").content, load_cell("emulated").content
    same = set(type(twin).model_fields) - {"kind", "copies", "world", "arm", "gripper", "camera", "scale", "motion"}
    assert all(getattr(twin, name) == getattr(emulated, name) for name in same)
    assert emulated.motion.model_copy(update={"speed": twin.motion.speed}) == twin.motion
