"""The flat metal pieces of synthetic scenes: coins, and pieces that are no coins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from surfaces import Floats, Rng, fractal

SMALLEST_RADIUS = 6.0
LARGEST_RADIUS = 110.0
LEAST_CONTRAST = 0.11


@dataclass(frozen=True, slots=True)
class Token:
    """A flat metal piece to lay on a canvas: `relief` is signed shading, `alpha` is coverage, 0..1."""

    relief: Floats
    alpha: Floats


@dataclass(frozen=True, slots=True)
class Mint:
    """What the pieces of one scene share: metal, relief, and the light that falls on them (an angle)."""

    light: float
    level: float
    tint: NDArray[np.float64]
    relief_gain: float
    shadow: float


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a token lies, in canvas pixels."""

    x: float
    y: float
    radius: float


def lay_tokens(rng: Rng, canvas: Floats) -> Floats:
    """Lays coins, and pieces that are no coins, on the canvas, in place. Returns the coins' boxes."""
    mint = Mint(
        light=rng.uniform(0, 2 * np.pi),
        level=rng.uniform(0.15, 0.95),
        tint=1 + rng.uniform(0, 0.35) * np.sort(rng.uniform(-1, 1, 3))[::-1] * (rng.random() < 0.6),
        relief_gain=rng.uniform(0.3, 1.3),
        shadow=rng.uniform(0.1, 0.7) * (rng.random() < 0.5),
    )
    decoy_share = rng.choice([0.0, 0.15, 0.4, 1.0], p=[0.3, 0.3, 0.3, 0.1])
    boxes = []
    for place in _placements(rng, canvas.shape[0], canvas.shape[1]):
        decoy = rng.random() < decoy_share
        token = _strike(rng, place, mint.light, _decoy_mask if decoy else _coin_mask)
        box = _lay(rng, canvas, token, place, mint)
        if not decoy:
            boxes.append(box)
    return np.array(boxes, np.float32).reshape(-1, 4)


def _placements(rng: Rng, height: int, width: int) -> list[Placement]:
    """Loose heaps or rows of pieces of one scale; at most a slight overlap, and mostly inside the canvas."""
    if rng.random() < 0.1:
        return []
    largest = min(LARGEST_RADIUS, 0.48 * min(height, width))
    scale = np.exp(rng.uniform(np.log(SMALLEST_RADIUS * 1.3), np.log(largest)))
    spread = rng.uniform(0.05, 0.4)
    gap = rng.uniform(0.9, 1.35)
    wanted = int(rng.integers(1, 40))
    placed: list[Placement] = []
    for _ in range(wanted * 4):
        radius = float(np.clip(scale * np.exp(rng.normal(0, spread)), SMALLEST_RADIUS, largest))
        inset = radius * rng.choice([0.2, 1.0], p=[0.15, 0.85])
        candidate = Placement(rng.uniform(inset, width - inset), rng.uniform(inset, height - inset), radius)
        if all(_apart(candidate, other, gap) for other in placed):
            placed.append(candidate)
        if len(placed) == wanted:
            break
    return placed


def _apart(a: Placement, b: Placement, gap: float) -> bool:
    return float(np.hypot(a.x - b.x, a.y - b.y)) > gap * (a.radius + b.radius)


def _coin_mask(rng: Rng, x: Floats, y: Floats, radius: float) -> Floats:
    """Coverage of a hand-struck or modern coin: nearly round, sometimes clipped or chipped."""
    squash = rng.uniform(0.8, 1.0) if rng.random() < 0.5 else 1.0
    rho, theta = np.hypot(x, y / squash), np.arctan2(y / squash, x)
    ragged = rng.choice([0.0, rng.uniform(0, 0.03), rng.uniform(0, 0.06)])
    outline = np.full_like(rho, radius)
    for order in range(2, 8):
        swing = radius * ragged * rng.normal() / order**0.5
        outline += swing * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    mask = np.clip(outline - rho + 0.5, 0, 1)
    for _ in range(int(rng.integers(0, 3)) if ragged else 0):
        cut, angle = rng.uniform(0.78, 1.0) * radius, rng.uniform(0, 2 * np.pi)
        mask *= np.clip(cut - (x * np.cos(angle) + y * np.sin(angle)) + 0.5, 0, 1)
    return mask


def _decoy_mask(rng: Rng, x: Floats, y: Floats, radius: float) -> Floats:
    """Coverage of a piece that is no coin: a polygon, a star, an oval, a ring, a crescent, a lump."""
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    kind = rng.integers(7)
    if kind == 0:
        sector = 2 * np.pi / rng.integers(3, 5)
        return np.clip(radius * 0.7 - rho * np.cos((theta % sector) - sector / 2) + 0.5, 0, 1)
    if kind == 1:
        outline = radius * (0.7 + rng.uniform(0.2, 0.3) * np.cos(rng.integers(3, 8) * theta))
        return np.clip(outline - rho + 0.5, 0, 1)
    if kind == 2:
        return np.clip(radius - np.hypot(x, y / rng.uniform(0.15, 0.6)) + 0.5, 0, 1)
    if kind == 3:
        hole = radius * rng.uniform(0.6, 0.85)
        return np.clip(radius - rho + 0.5, 0, 1) * np.clip(rho - hole + 0.5, 0, 1)
    if kind >= 5:
        return _lump_mask(rng, rho, theta, radius)
    bite = np.hypot(x - radius * rng.uniform(0.4, 0.8), y) - radius * rng.uniform(0.8, 1.0)
    return np.clip(radius - rho + 0.5, 0, 1) * np.clip(bite + 0.5, 0, 1)


def _lump_mask(rng: Rng, rho: Floats, theta: Floats, radius: float) -> Floats:
    """A rounded, irregular body with an edge from sharp to very soft, as things in photographs have."""
    outline = np.full_like(rho, 0.75 * radius)
    for order in range(1, 5):
        outline += radius * rng.uniform(0.05, 0.2) * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    softness = 1 + rng.choice([0.0, rng.uniform(0, 0.8)]) * radius
    return np.clip((outline - rho) / softness + 0.5, 0, 1)


Mask = Callable[[Rng, Floats, Floats, float], Floats]


def _strike(rng: Rng, place: Placement, light: float, mask: Mask) -> Token:
    """Makes one piece, lit from the angle `light`; the patch is centred on the placement's nearest pixel."""
    half = int(place.radius * 1.3) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    x -= place.x - np.floor(place.x)
    y -= place.y - np.floor(place.y)
    turn = rng.uniform(0, 2 * np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    alpha = mask(rng, u, v, place.radius)
    height = _engraving(rng, u / place.radius, v / place.radius)
    slope_y, slope_x = np.gradient(height * place.radius)
    shading = np.tanh(slope_x * np.cos(light) + slope_y * np.sin(light))
    edge = alpha - gaussian_filter(alpha, max(0.7, 0.06 * place.radius))
    relief = rng.uniform(0.0, 0.7) * shading + rng.uniform(-0.3, 0.9) * edge
    stain = rng.uniform(0.0, 0.12) * fractal(rng, *alpha.shape, finest_cells=32)
    return Token((relief + stain).astype(np.float32), alpha.astype(np.float32))


def _engraving(rng: Rng, u: Floats, v: Floats) -> Floats:
    """The height of a coin's face over the unit disc: wear, rim, beads, portrait, legend."""
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    height = rng.uniform(0.0, 0.08) * fractal(rng, *u.shape, finest_cells=rng.choice([8, 16, 32]))
    if rng.random() < 0.6:
        ring, width = rng.uniform(0.78, 0.98), rng.uniform(0.02, 0.08)
        beads = 1 + np.cos(rng.integers(20, 60) * theta) * (rng.random() < 0.3)
        height += rng.uniform(0.02, 0.1) * beads * np.exp(-(((rho - ring) / width) ** 2))
    for _ in range(int(rng.integers(0, 7))):
        height += rng.uniform(-0.25, 0.25) * _blob(rng, u, v, largest=0.6)
    for _ in range(int(rng.integers(0, 14))):
        height += rng.uniform(0.02, 0.15) * _blob(rng, u, v, largest=0.15)
    return height


def _blob(rng: Rng, u: Floats, v: Floats, *, largest: float) -> Floats:
    """One raised ellipse with a steep edge, 0..1."""
    angle, reach = rng.uniform(0, 2 * np.pi), 0.8 * np.sqrt(rng.random())
    du, dv = u - reach * np.cos(angle), v - reach * np.sin(angle)
    turn = rng.uniform(0, np.pi)
    long, short = largest * rng.uniform(0.4, 1.0), largest * rng.uniform(0.15, 0.6)
    p, q = du * np.cos(turn) + dv * np.sin(turn), dv * np.cos(turn) - du * np.sin(turn)
    return np.clip((1 - np.hypot(p / long, q / short)) / rng.uniform(0.2, 0.8), 0, 1)


def _lay(rng: Rng, canvas: Floats, token: Token, place: Placement, mint: Mint) -> list[float]:
    """Blends the token over the canvas, in place. Returns its visible box: corners in canvas pixels."""
    half = token.alpha.shape[0] // 2
    left, top = int(np.floor(place.x)) - half, int(np.floor(place.y)) - half
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + 2 * half + 1, canvas.shape[1]), min(top + 2 * half + 1, canvas.shape[0])
    window = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    under = canvas[y1:y2, x1:x2]
    alpha, relief = token.alpha[window][..., None], token.relief[window][..., None]

    level = _contrasting(rng, mint.level + rng.normal(0, 0.08), float(under.mean()))
    if mint.shadow:
        reach = rng.uniform(0.03, 0.12) * place.radius + 1
        offset = (round(np.sin(mint.light) * reach), round(np.cos(mint.light) * reach))
        cast = np.roll(token.alpha, offset, (0, 1))
        under = under * (1 - mint.shadow * gaussian_filter(cast, reach)[window][..., None])
    face = level * mint.tint * (1 + mint.relief_gain * relief)
    canvas[y1:y2, x1:x2] = under * (1 - alpha) + np.clip(face, 0, 1) * alpha

    rows, columns = np.nonzero(alpha[..., 0] > 0.5 * alpha.max())
    return [x1 + columns.min(), y1 + rows.min(), x1 + columns.max() + 1, y1 + rows.max() + 1]


def _contrasting(rng: Rng, level: float, ground: float) -> float:
    """A level that stands out from the ground it lies on, so that no label is a guess."""
    if abs(level - ground) >= LEAST_CONTRAST:
        return float(np.clip(level, 0.05, 1.0))
    step = rng.uniform(LEAST_CONTRAST, 0.3)
    brighter = ground + step <= 1.0 and (ground - step < 0.05 or rng.random() < 0.7)
    return ground + step if brighter else ground - step
