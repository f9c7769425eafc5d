"""Draws findings on a picture. numpy alone, with letters of our own (glyphs.py): no fonts are needed."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import Pixels
from imageflow_detect.boxes import Floats
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

    def over(self, corners: Floats) -> Floats:
        """How much it lies over each of these rectangles (N, 4), in square pixels."""
        height, width = self.ink.shape
        across = np.minimum(self.x + width, corners[:, 2]) - np.maximum(self.x, corners[:, 0])
        down = np.minimum(self.y + height, corners[:, 3]) - np.maximum(self.y, corners[:, 1])
        return cast(Floats, np.maximum(across, 0.0) * np.maximum(down, 0.0))

    @property
    def corners(self) -> tuple[int, int, int, int]:
        height, width = self.ink.shape
        return self.x, self.y, self.x + width, self.y + height


def annotate(pixels: Pixels, found: Sequence[Found]) -> Pixels:
    """A copy with a box and a tab saying `label 0.93` for each finding, the strongest on top.

    Always RGB, or RGB+alpha where there was alpha (what is drawn is opaque); size, dtype and `to_input` stay.
    Tabs stay inside the picture: above the box if there is room, else inside or below it; they are cut where the
    picture is too small. In a crowd a tab that would cover another, or most of another's box, says the label alone or
    is left out, the weakest first; the box has its class's colour as ever. The pixels that came in are not changed.
    """
    canvas = _rgb_copy(pixels)
    full = FULL_SCALE[pixels.dtype]
    style = Style.for_size(pixels.width, pixels.height)
    for each in reversed(found):
        _draw_frame(canvas, each.box, class_colour(each.class_id), style.line, full)
    tabs = _tabs(found, style, width=pixels.width, height=pixels.height)
    for each, tab in zip(reversed(found), reversed(tabs), strict=True):
        if tab is not None:
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


def _tabs(found: Sequence[Found], style: Style, *, width: int, height: int) -> list[Tab | None]:
    """A tab for each, in the same order: where it is in nobody's way, with as much text as there is a place for."""
    boxes = np.array([_corners_of(each.box) for each in found], np.float64).reshape(-1, 4)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    placed, tabs = np.empty((0, 4)), list[Tab | None]()
    for number, each in enumerate(found):
        hidden = np.where(np.arange(len(found)) == number, np.inf, areas / 2)
        texts = (f"{each.label} {each.confidence:.2f}", each.label)
        places = (tab for text in texts for tab in _places(text, each.box, style, width=width, height=height))
        free = (tab for tab in places if not tab.over(placed).any() and not (tab.over(boxes) > hidden).any())
        tabs.append(next(free, None))
        placed = np.array([tab.corners for tab in tabs if tab is not None], np.float64).reshape(-1, 4)
    return tabs


def _corners_of(box: Box) -> tuple[float, float, float, float]:
    return box.x, box.y, box.x + box.width, box.y + box.height


def _places(text: str, box: Box, style: Style, *, width: int, height: int) -> list[Tab]:
    """The text in each of its places, the best first."""
    ink = _ink(text, style)[:height, :width]
    return [Tab(x, y, ink) for x, y in _corners(box, ink, width=width, height=height)]


@lru_cache(maxsize=256)
def _ink(text: str, style: Style) -> Coverage:
    """The text with room round it; not to be changed."""
    around = ((style.padding, style.padding // 2), (style.padding, style.padding))
    return np.pad(text_coverage(text, capital=style.capital), around)


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
