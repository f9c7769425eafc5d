"""Surfaces of synthetic scenes: smooth noise and what is made of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
Rng = np.random.Generator


def noise(rng: Rng, height: int, width: int, cells: float) -> Floats:
    """Smooth noise of unit variance with about `cells` features along the longer side."""
    scale = cells / max(height, width)
    grid = (max(2, round(height * scale)), max(2, round(width * scale)))
    coarse = Image.fromarray(rng.standard_normal(grid).astype(np.float32))
    fine = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return fine / (fine.std() + 1e-6)


def fractal(rng: Rng, height: int, width: int, *, finest_cells: float) -> Floats:
    """Octaves of noise whose strength falls with frequency, as in natural surfaces; unit variance."""
    total = np.zeros((height, width), np.float32)
    cells, weight = 2.0, 1.0
    fall = rng.uniform(0.55, 0.95)
    while cells <= finest_cells:
        total += weight * noise(rng, height, width, cells)
        cells, weight = cells * 2, weight * fall
    return total / (total.std() + 1e-6)


def patches(rng: Rng, height: int, width: int) -> Floats:
    """Irregular bodies, 0..1: smooth noise cut at a level, with hard or soft edges."""
    field = noise(rng, height, width, rng.uniform(2, 12)) - rng.uniform(0, 1)
    return np.clip(field / rng.choice([0.02, 0.2, 0.8]) + 0.5, 0, 1)


def weave(rng: Rng, x: Floats, y: Floats) -> Floats:
    """Planks, cloth or tiles: one wave, or two crossed, smooth or hard."""
    angle = rng.uniform(0, np.pi)
    frequency = 2 * np.pi / np.exp(rng.uniform(np.log(4), np.log(80)))
    along = np.sin(frequency * (x * np.cos(angle) + y * np.sin(angle)))
    across = np.sin(frequency * (y * np.cos(angle) - x * np.sin(angle)))
    wave = along + across * (rng.random() < 0.5)
    return rng.uniform(0.02, 0.12) * (np.sign(wave) if rng.random() < 0.4 else wave)
