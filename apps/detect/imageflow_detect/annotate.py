"""Draws findings on a picture. numpy alone, with letters of our own (glyphs.py): no fonts are needed."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import Pixels
from imageflow_detect.detect import Box, Found
from imageflow_detect.glyphs import Coverage, text_coverage
from imageflow_detect.letterbox import FULL_SCALE

Canvas = npt.NDArray[Any]
Colour = tuple[float, float, float]

_GOLDEN_RATIO: Final = 0.6180339887498949
_FIRST_HUE: Final = 0.40
_DARK: Final[Colour] = (0.07, 0.07, 0.07)
_LIGHT: Final[Colour] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Style:
    """Sizes in pixels: the line's width, the height of capitals, the room round the text."""

    line: int
    capital: int
    padding: int

    @classmethod
    def for_size(cls, width: int, height: int) -> Style:
        """Sizes that look alike on every picture: they grow with the square root of its area, but stay
        readable on a small one."""
        side = math.sqrt(width * height)
        capital = max(9, round(side / 52))
        return cls(line=max(2, round(side / 300)), capital=capital, padding=max(2, round(capital * 0.35)))


@dataclass(frozen=True, slots=True, eq=False)
class Tab:
    """Text in its place: x and y of its top left corner, and its ink (H, W)."""

    x: int
    y: int
    ink: Coverage

    def covers(self, other: Tab) -> bool:
        (height, width), (other_height, other_width) = self.ink.shape, other.ink.shape
        across = self.x < other.x + other_width and other.x < self.x + width
        down = self.y < other.y + other_height and other.y < self.y + height
        return bool(across and down)


def annotate(pixels: Pixels, found: Sequence[Found]) -> Pixels:
    """A copy with a box and a tab saying `label 0.93` for each finding, the strongest on top.

    Always RGB, or RGB+alpha where there was alpha (what is drawn is opaque); size, dtype and `to_input` stay.
    Tabs stay inside the picture: above the box if there is room, else inside or below it, and off each other
    if they can; they are cut where the picture is too small. The pixels that came in are not changed.
    """
    canvas = _rgb_copy(pixels)
    full = FULL_SCALE[pixels.dtype]
    style = Style.for_size(pixels.width, pixels.height)
    for each in reversed(found):
        _draw_frame(canvas, each.box, class_colour(each.class_id), style.line, full)
    tabs = _tabs(found, style, width=pixels.width, height=pixels.height)
    for each, tab in zip(reversed(found), reversed(tabs), strict=True):
        _draw_tab(canvas, tab, class_colour(each.class_id), full)
    return pixels.with_array(canvas)


def class_colour(class_id: int) -> Colour:
    """A bright colour, red, green, blue 0…1; classes with near numbers get far hues (golden ratio steps)."""
    hue = (_FIRST_HUE + class_id * _GOLDEN_RATIO) % 1.0
    return colorsys.hsv_to_rgb(hue, 0.85 if class_id % 2 == 0 else 0.65, 1.0 if class_id % 3 else 0.92)


def _rgb_copy(pixels: Pixels) -> Canvas:
    array = pixels.array
    if pixels.channels >= 3:
        return array.copy()
    rgb = np.repeat(array[:, :, :1], 3, axis=2)
    return np.concatenate([rgb, array[:, :, 1:]], axis=2) if pixels.has_alpha else rgb


def _draw_frame(canvas: Canvas, box: Box, colour: Colour, line: int, full: float) -> None:
    """A frame whose outer edge is the box's, to the nearest pixel."""
    height, width = canvas.shape[:2]
    left, top = max(0, round(box.x)), max(0, round(box.y))
    right = min(width, max(left + 1, round(box.x + box.width)))
    bottom = min(height, max(top + 1, round(box.y + box.height)))
    line = max(1, min(line, (right - left) // 2, (bottom - top) // 2))
    paint = _paint(canvas, colour, full)
    canvas[top : top + line, left:right] = paint
    canvas[max(top, bottom - line) : bottom, left:right] = paint
    canvas[top:bottom, left : left + line] = paint
    canvas[top:bottom, max(left, right - line) : right] = paint


def _tabs(found: Sequence[Found], style: Style, *, width: int, height: int) -> list[Tab]:
    """A tab for each, in the same order: each where it covers no tab before it, if there is such a place."""
    tabs: list[Tab] = []
    for each in found:
        text = text_coverage(f"{each.label} {each.confidence:.2f}", capital=style.capital)
        around = ((style.padding, style.padding // 2), (style.padding, style.padding))
        ink = np.pad(text, around)[:height, :width]
        places = [Tab(x, y, ink) for x, y in _corners(each.box, ink, width=width, height=height)]
        free = (place for place in places if not any(place.covers(other) for other in tabs))
        tabs.append(next(free, places[0]))
    return tabs


def _corners(box: Box, ink: Coverage, *, width: int, height: int) -> list[tuple[int, int]]:
    """Where a tab may have its top left corner, the best first: above the box (flush left, then right),
    inside at its top, below it, inside at its bottom; all within the picture."""
    tab_height, tab_width = ink.shape
    left, top = round(box.x), round(box.y)
    right, bottom = round(box.x + box.width), round(box.y + box.height)
    wanted = [
        (left, top - tab_height),
        (right - tab_width, top - tab_height),
        (left, top),
        (left, bottom),
        (right - tab_width, bottom),
        (left, bottom - tab_height),
    ]
    within = [(x, y) for x, y in wanted if 0 <= y <= height - tab_height] or [(left, top)]
    return [(min(max(0, x), width - tab_width), min(max(0, y), height - tab_height)) for x, y in within]


def _draw_tab(canvas: Canvas, tab: Tab, colour: Colour, full: float) -> None:
    ground = _paint(canvas, colour, full)
    text = _paint(canvas, _LIGHT if _luminance(colour) < 0.4 else _DARK, full)
    blended = ground + (text.astype(np.float32) - ground) * tab.ink[:, :, None]
    height, width = tab.ink.shape
    canvas[tab.y : tab.y + height, tab.x : tab.x + width] = _as_dtype(blended, canvas.dtype)


def _paint(canvas: Canvas, colour: Colour, full: float) -> Canvas:
    """The colour as a pixel of the canvas, opaque."""
    channels = (*colour, 1.0)[: canvas.shape[2]]
    return _as_dtype(np.array(channels, np.float64) * full, canvas.dtype)


def _as_dtype(values: Canvas, dtype: np.dtype[Any]) -> Canvas:
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)


def _luminance(colour: Colour) -> float:
    """Rec. 709 weights on sRGB values as they are: enough to choose between dark and light text."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
