"""Synthetic photographs of coins: the only images the detector is trained on.

A scene is drawn in the network's own frame (a square, letterboxed as the runtime does it), so the training
loop needs no resizing. Everything is a function of one integer seed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from surfaces import Floats, Rng, fractal, noise, patches, weave
from tokens import lay_tokens

INPUT_SIZE = 320
LETTERBOX_LEVEL = 114


@dataclass(frozen=True, slots=True)
class Rect:
    """A half-open pixel rectangle inside the network's frame."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Scene:
    """`image`: uint8 [S, S, 3] RGB, letterboxed. `boxes`: float32 [N, 4] corners (x1, y1, x2, y2)."""

    image: NDArray[np.uint8]
    boxes: Floats


def draw_scene(seed: int) -> Scene:
    """Draws the scene of this seed. The same seed gives the same scene."""
    rng = np.random.default_rng(seed)
    content = _content_rect(rng)
    frame = _canvas_rect(rng, content)
    canvas = _background(rng, frame.height, frame.width)
    canvas = _clutter(rng, canvas)
    boxes = lay_tokens(rng, canvas)
    canvas = _light(rng, canvas)
    pixels = _camera(rng, canvas)

    image = np.full((INPUT_SIZE, INPUT_SIZE, 3), LETTERBOX_LEVEL, np.uint8)
    _paste(image, content, _solid(rng, content))
    _paste(image, frame, pixels)
    return Scene(image, boxes + np.array([frame.x, frame.y, frame.x, frame.y], np.float32))


def _paste(image: NDArray[np.uint8], rect: Rect, pixels: NDArray[np.uint8]) -> None:
    image[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width] = pixels


def _solid(rng: Rng, rect: Rect) -> NDArray[np.uint8]:
    colour = rng.choice([0, 255, int(rng.integers(256))])
    return np.full((rect.height, rect.width, 3), colour, np.uint8)


def _content_rect(rng: Rng) -> Rect:
    """What a letterboxed picture of some aspect ratio covers of the square."""
    if rng.random() < 0.35:
        return Rect(0, 0, INPUT_SIZE, INPUT_SIZE)
    short = int(INPUT_SIZE * rng.uniform(0.5, 1.0))
    offset = (INPUT_SIZE - short) // 2 if rng.random() < 0.7 else int(rng.integers(INPUT_SIZE - short + 1))
    return Rect(0, offset, INPUT_SIZE, short) if rng.random() < 0.65 else Rect(offset, 0, short, INPUT_SIZE)


def _canvas_rect(rng: Rng, content: Rect) -> Rect:
    """The photograph inside the picture: smaller when an earlier step fitted it on a plain canvas."""
    if rng.random() < 0.8:
        return content
    width = int(content.width * rng.uniform(0.55, 1.0))
    height = int(content.height * rng.uniform(0.75, 1.0))
    left, top = content.x + (content.width - width) // 2, content.y + (content.height - height) // 2
    return Rect(left, top, width, height)


def _background(rng: Rng, height: int, width: int) -> Floats:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    level = rng.uniform(0.05, 0.85)
    surface = np.full((height, width), level, np.float32)
    surface += rng.choice([0.0, rng.uniform(0.0, 0.05), rng.uniform(0.0, 0.15)]) * fractal(
        rng, height, width, finest_cells=rng.choice([16, 64, 160])
    )
    if rng.random() < 0.3:
        surface += weave(rng, x, y)
    for _ in range(int(rng.integers(1, 5)) if rng.random() < 0.3 else 0):
        surface += rng.uniform(-0.3, 0.3) * patches(rng, height, width)
    tint = 1 + rng.uniform(0, 0.5) * rng.uniform(-1, 1, 3) * (rng.random() < 0.6)
    return np.clip(surface[..., None] * tint, 0, 1).astype(np.float32)


def _clutter(rng: Rng, canvas: Floats) -> Floats:
    """Draws things that are not coins: bars, polygons, arcs, outlines, strokes, specks, dust."""
    if rng.random() < 0.45:
        return canvas
    height, width = canvas.shape[:2]
    picture = Image.fromarray((canvas * 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    shapes = (_draw_polygon, _draw_stroke, _draw_bar, _draw_arc, _draw_outline, _draw_speck, _draw_speck)
    for _ in range(int(rng.integers(1, 25))):
        shape = shapes[rng.integers(len(shapes))]
        colour = tuple(int(v) for v in np.clip(rng.uniform(0, 255) + rng.uniform(-50, 50, 3), 0, 255))
        shape(rng, pen, np.array([rng.uniform(0, width), rng.uniform(0, height)]), colour)
    return np.asarray(picture, np.float32) / 255


Pen = ImageDraw.ImageDraw
Colour = tuple[int, ...]
Shape = Callable[[Rng, Pen, NDArray[np.float64], Colour], None]


def _draw_polygon(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    corners = int(rng.integers(3, 6))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    reach = rng.uniform(5, 80) * rng.uniform(0.4, 1, corners)
    points = centre + np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    pen.polygon([tuple(p) for p in points], fill=colour)


def _draw_stroke(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    steps = np.cumsum(rng.normal(0, rng.uniform(5, 50), (int(rng.integers(2, 6)), 2)), 0)
    pen.line([tuple(p) for p in centre + steps], fill=colour, width=int(rng.integers(1, 10)), joint="curve")


def _draw_bar(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    half = np.array([rng.uniform(3, 100), rng.uniform(3, 100)])
    box = [*(centre - half), *(centre + half)]
    pen.rounded_rectangle(box, radius=rng.uniform(0, half.min() * 0.4), fill=colour)


def _draw_arc(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    reach = rng.uniform(6, 90)
    start = rng.uniform(0, 360)
    box = [*(centre - reach), *(centre + reach)]
    if rng.random() < 0.5:
        pen.pieslice(box, start, start + rng.uniform(30, 190), fill=colour)
        return
    pen.arc(box, start, start + rng.uniform(40, 360), fill=colour, width=int(rng.integers(1, 6)))


def _draw_outline(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    half = np.exp(rng.uniform(np.log(5), np.log(80), 2))
    pen.ellipse([*(centre - half), *(centre + half)], outline=colour, width=int(rng.integers(1, 4)))


def _draw_speck(rng: Rng, pen: Pen, centre: NDArray[np.float64], colour: Colour) -> None:
    reach = rng.uniform(0.5, 3.0)
    pen.ellipse([*(centre - reach), *(centre + reach)], fill=colour)


def _light(rng: Rng, canvas: Floats) -> Floats:
    """Uneven illumination, exposure and gamma."""
    height, width = canvas.shape[:2]
    field = rng.uniform(0, 0.25) * noise(rng, height, width, rng.uniform(1, 4))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    field += rng.uniform(0, 0.4) * (x * np.cos(angle) + y * np.sin(angle))
    lit = canvas * np.clip(1 + field, 0.25, 1.6)[..., None] * rng.uniform(0.55, 1.0)
    return np.clip(lit, 0, 1).astype(np.float32) ** rng.uniform(0.7, 1.4)


def _camera(rng: Rng, canvas: Floats) -> NDArray[np.uint8]:
    """What a camera and a file format do: grey, softness, sharpening, sensor noise, JPEG."""
    height, width = canvas.shape[:2]
    if rng.random() < 0.5:
        canvas = np.repeat(canvas @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.6)
        canvas = gaussian_filter(canvas, (sigma, sigma, 0))
    if rng.random() < 0.3:
        soft = gaussian_filter(canvas, (1, 1, 0))
        canvas = canvas + rng.uniform(0.3, 1.5) * (canvas - soft)
    if rng.random() < 0.6:
        grain = rng.standard_normal((height, width, rng.choice([1, 3])))
        canvas = canvas + rng.uniform(0, 0.05) * grain
    pixels = np.clip(canvas * 255, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(30, 96)))
        pixels = np.asarray(Image.open(file).convert("RGB"))
    return pixels
