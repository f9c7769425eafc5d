from __future__ import annotations

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from imageflow_common.pixels import Affine, Pixels
from imageflow_detect.annotate import Style, _tabs, annotate, class_colour
from imageflow_detect.detect import Box, Found
from imageflow_detect.glyphs import text_coverage
from imageflow_detect.letterbox import FULL_SCALE


def found(x: float, y: float, width: float, height: float, *, label: str = "coin", class_id: int = 0) -> Found:
    box = Box(x, y, width, height)
    return Found(label, class_id, 0.93, box, box)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_box_is_drawn_on_a_copy_of_any_pixels(dtype: str, channels: int) -> None:
    full = FULL_SCALE[dtype]
    array = np.full((200, 300, channels), 0.25 * full).astype(dtype)
    array.flags.writeable = False
    before = array.copy()
    drawn = annotate(Pixels(array, Affine.scale(2, 2)), [found(50, 80, 100, 60)])
    np.testing.assert_array_equal(array, before)
    assert drawn.dtype == dtype
    assert drawn.channels == (4 if channels in (2, 4) else 3)
    assert drawn.to_input == Affine.scale(2, 2)
    np.testing.assert_allclose(drawn.array[139, 100, :3] / full, class_colour(0), atol=0.003)
    if drawn.has_alpha:
        assert drawn.array[139, 100, 3] == full
    np.testing.assert_array_equal(drawn.array[110, 100], drawn.array[0, 0])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (16, 16), (320, 240), (4000, 300)])
def test_any_size_of_picture_takes_any_box(width: int, height: int) -> None:
    pixels = Pixels(np.zeros((height, width, 3), np.uint8))
    corner = found(width - 0.4, height - 0.4, 0.4, 0.4, label="a very long label for a small picture")
    assert annotate(pixels, [corner, found(0, 0, width, height), found(0.2, 0.2, 0.1, 0.1)]).array.any()


def test_nothing_found_is_nothing_drawn() -> None:
    array = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    drawn = annotate(Pixels(array), []).array
    np.testing.assert_array_equal(drawn, array)
    assert not np.shares_memory(drawn, array)


def test_a_tab_at_the_top_edge_stays_inside_the_picture() -> None:
    drawn = annotate(Pixels(np.zeros((240, 320, 3), np.uint8)), [found(250, 0, 70, 100)]).array
    assert drawn[3, 310].any()


def test_tabs_stay_off_each_other_where_they_can() -> None:
    crowd = [found(60 + 30 * n, 60, 28, 28) for n in range(5)]
    tabs = [tab for tab in _tabs(crowd, Style.for_size(320, 240), width=320, height=240) if tab is not None]
    assert len(tabs) == 5
    assert not any(one.over(np.array([other.corners])).any() for one, other in itertools.combinations(tabs, 2))


def test_in_a_crowd_tabs_say_less_and_hide_nobody() -> None:
    """120 boxes of 8×8: the strongest have their tabs, and no box is hidden by somebody else's."""
    crowd = [found(4 + 16 * x, 20 + 20 * y, 8, 8) for y in range(8) for x in range(15)]
    tabs = _tabs(crowd, Style.for_size(250, 200), width=250, height=200)
    there = [tab for tab in tabs if tab is not None]
    assert tabs[0] is not None
    assert 0 < len(there) < len(tabs)
    assert len({tab.ink.shape for tab in there}) > 1
    assert not any(one.over(np.array([other.corners])).any() for one, other in itertools.combinations(there, 2))
    for number, tab in enumerate(tabs):
        others = np.array(
            [(b.x, b.y, b.x + 8, b.y + 8) for n, b in enumerate(each.box for each in crowd) if n != number]
        )
        assert tab is None or tab.over(others).max() <= 32


@pytest.mark.parametrize(("width", "height"), [(1, 1), (40, 30), (320, 240), (6000, 4000)])
def test_one_finding_always_has_its_tab(width: int, height: int) -> None:
    for box in (found(0, 0, width, height), found(width - 1, height - 1, 1, 1)):
        assert _tabs([box], Style.for_size(width, height), width=width, height=height) != [None]


def test_near_classes_differ_in_colour() -> None:
    colours = np.array([class_colour(number) for number in range(12)])
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2) + np.eye(12)
    assert distances.min() > 0.2


def test_every_printable_character_has_a_look_of_its_own() -> None:
    looks = {chr(code): text_coverage(chr(code), capital=24).tobytes() for code in range(32, 127)}
    assert len(set(looks.values())) == 95


@pytest.mark.parametrize(("text", "like"), [("é", "e"), ("Ü", "U"), ("\t", " "), ("猫", "犬"), ("\0", "猫")])
def test_other_characters_have_a_stand_in(text: str, like: str) -> None:
    np.testing.assert_array_equal(text_coverage(text, capital=20), text_coverage(like, capital=20))


def test_ink_is_between_none_and_full() -> None:
    ink = text_coverage("Wg 0.93", capital=9)
    assert ink.dtype == np.float32
    assert ink.min() == 0
    assert 0.9 < ink.max() <= 1
    assert text_coverage("", capital=9).max() == 0


def test_drawing_needs_no_fonts(tmp_path: object) -> None:
    """In a process whose fontconfig knows no font, labels look as they do here."""
    script = (
        "import hashlib; from imageflow_detect.glyphs import text_coverage; "
        "print(hashlib.sha256(text_coverage('coin 0.93', capital=12).tobytes()).hexdigest())"
    )
    bare = os.environ | {"FONTCONFIG_FILE": "/dev/null", "FONTCONFIG_PATH": "/nonexistent"}
    runs = [
        subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout
        for env in (dict(os.environ), bare)
    ]
    assert runs[0] == runs[1]
