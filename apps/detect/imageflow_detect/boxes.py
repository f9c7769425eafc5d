"""Boxes as columns of numbers, and what does not depend on the network they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from imageflow_common.pixels import Affine

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """N boxes as columns: `corners` float64 (N, 4) left, top, right, bottom; `scores` float64 (N,), 0…1;
    `class_ids` int64 (N,). Strongest first; equal scores keep the network's order."""

    corners: Floats
    scores: Floats
    class_ids: Integers

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, which: Booleans | Integers | slice) -> Boxes:
        return Boxes(self.corners[which], self.scores[which], self.class_ids[which])

    def at(self, corners: Floats) -> Boxes:
        """The same ones elsewhere."""
        return Boxes(corners, self.scores, self.class_ids)

    def strongest_first(self, *, at_most: int | None = None) -> Boxes:
        return self.take(np.argsort(-self.scores, kind="stable")[:at_most])

    def mapped(self, affine: Affine) -> Boxes:
        return self.at(map_corners(self.corners, affine))


def joined(parts: Sequence[Boxes]) -> Boxes:
    """All of them, in the order of the parts."""
    return Boxes(
        np.concatenate([np.empty((0, 4)), *[part.corners for part in parts]]),
        np.concatenate([np.empty(0), *[part.scores for part in parts]]),
        np.concatenate([np.empty(0, np.int64), *[part.class_ids for part in parts]]),
    )


def map_corners(corners: Floats, affine: Affine) -> Floats:
    """The upright rectangles (N, 4) around the images of upright rectangles (N, 4) under the map."""
    if not (affine.b or affine.d) and affine.a > 0 and affine.e > 0:  # the usual one turns nothing
        return corners * (affine.a, affine.e, affine.a, affine.e) + (affine.c, affine.f, affine.c, affine.f)
    left, top, right, bottom = corners.T
    points = np.stack([left, top, right, top, left, bottom, right, bottom], axis=1).reshape(-1, 2)
    mapped = affine.apply(points).reshape(-1, 4, 2)
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


def clip(corners: Floats, *, width: float, height: float) -> Floats:
    """What of them lies in 0…width, 0…height."""
    return np.clip(corners, 0.0, np.array([width, height, width, height], np.float64))


def have_sides(corners: Floats, least: float = 0.0) -> Booleans:
    """Which have an area, and no side shorter than `least`."""
    left, top, right, bottom = corners.T
    across, down = right - left, bottom - top
    return cast(Booleans, (across > 0) & (down > 0) & (across >= least) & (down >= least))
