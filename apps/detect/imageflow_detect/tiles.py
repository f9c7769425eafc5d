"""A large picture, looked at in overlapping tiles, so that what is small in it is not lost when it is scaled down.

The idea is that of sliced inference (Akyon et al., "Slicing Aided Hyper Inference", 2022). What tiles have in common is
looked at twice, and decides which of their boxes are one object: those whose parts in there agree. So an object that a
tile cuts is joined over the seam, however little of it the tiles share, and two objects side by side are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple, cast

import numpy as np

from imageflow_common.errors import InvalidParameters, Violation
from imageflow_detect.boxes import Booleans, Boxes, Floats, Integers, clip, have_sides, joined
from imageflow_detect.suppress import overlap, suppress

MAX_TILES: Final = 400
_AT_THE_EDGE: Final = 0.01
"""How near a box is to an edge of its tile when it is taken to be cut there, as a part of the tile's side."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        return self.x, self.y, self.x + self.width, self.y + self.height


def tiles_of(width: int, height: int, *, size: int, overlap: float) -> tuple[Tile, ...]:
    """Tiles of size×size that cover the picture, as few as may be, evenly, each sharing at least `overlap`, a part of
    its side, with the next; smaller where the picture is. Raises InvalidParameters for more than MAX_TILES."""
    columns, rows = _starts(width, size, overlap), _starts(height, size, overlap)
    count = len(columns) * len(rows)
    if count > MAX_TILES:
        raise InvalidParameters(
            f"a picture of {width}×{height} would be {count:,} tiles of {size}; at most {MAX_TILES}",
            violations=[Violation("tileSize", f"too small for {width}×{height}")],
        )
    return tuple(Tile(x, y, min(size, width), min(size, height)) for y in rows for x in columns)


def merge(
    found: Sequence[tuple[Tile, Boxes]],
    *,
    width: int,
    height: int,
    threshold: float,
    at_most: int,
    class_agnostic: bool = False,
) -> Boxes:
    """What the tiles of a width×height picture found, in its pixels, each object once, strongest first.

    Boxes of two tiles, of one class, are one object when the parts of them that both tiles saw overlap by more than
    `threshold`, intersection over union; each has at most one counterpart in another tile, the one that it agrees with
    most. The object has the strongest one's score and class, and the strongest box that no tile cuts; where tiles cut
    all of them, the rectangle around them.
    """
    everything = _gathered(found)
    groups = _groups(everything, _pairs(everything, threshold, class_agnostic))
    cut = _cut(everything, width=width, height=height)
    objects = joined([_one(everything.boxes.take(group), cut[group]) for group in groups]).strongest_first()
    return objects.take(suppress(objects, threshold, at_most=at_most, class_agnostic=class_agnostic))


class _Gathered(NamedTuple):
    """The boxes of all tiles, tile by tile, and for each which tile found it."""

    boxes: Boxes
    origins: Integers
    tiles: tuple[Tile, ...]


class _Pair(NamedTuple):
    agreement: float
    one: int
    other: int


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    step = max(1, int(size * (1 - overlap)))
    count = -(-(length - size) // step) + 1
    return [round(number * (length - size) / (count - 1)) for number in range(count)]


def _gathered(found: Sequence[tuple[Tile, Boxes]]) -> _Gathered:
    parts = [boxes for _, boxes in found]
    origins = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return _Gathered(joined(parts), origins, tuple(tile for tile, _ in found))


def _pairs(gathered: _Gathered, threshold: float, class_agnostic: bool) -> list[_Pair]:
    """Boxes of two tiles that agree in what both saw, the best agreement first."""
    pairs: list[_Pair] = []
    for one, other in combinations(range(len(gathered.tiles)), 2):
        zone = _common(gathered.tiles[one], gathered.tiles[other])
        if zone is not None:
            pairs += _agreeing(gathered, (one, other), zone, threshold, class_agnostic)
    return sorted(pairs, key=lambda pair: -pair.agreement)


def _common(one: Tile, other: Tile) -> Tile | None:
    left, top = max(one.x, other.x), max(one.y, other.y)
    right, bottom = min(one.x + one.width, other.x + other.width), min(one.y + one.height, other.y + other.height)
    return Tile(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _agreeing(
    gathered: _Gathered, tiles: tuple[int, int], zone: Tile, threshold: float, class_agnostic: bool
) -> list[_Pair]:
    (ones, some), (others, more) = (_parts_within(gathered, tile, zone) for tile in tiles)
    if not len(ones) or not len(others):
        return []
    agreement = overlap(some, more)
    if not class_agnostic:
        agreement[gathered.boxes.class_ids[ones][:, None] != gathered.boxes.class_ids[others]] = 0.0
    rows, columns = np.nonzero(agreement > threshold)
    return [_Pair(float(agreement[r, c]), int(ones[r]), int(others[c])) for r, c in zip(rows, columns, strict=True)]


def _parts_within(gathered: _Gathered, tile: int, zone: Tile) -> tuple[Integers, Floats]:
    """The boxes that a tile found and that have a part in the zone, and these parts."""
    numbers = np.flatnonzero(gathered.origins == tile)
    offset = np.array([zone.x, zone.y, zone.x, zone.y], np.float64)
    parts = clip(gathered.boxes.corners[numbers] - offset, width=zone.width, height=zone.height)
    there = have_sides(parts)
    return numbers[there], parts[there]


def _groups(gathered: _Gathered, pairs: Sequence[_Pair]) -> list[Integers]:
    """Boxes that are one object: the pairs joined, the best first, never two boxes of one tile in a group."""
    group_of = list(range(len(gathered.boxes)))
    members = {number: [number] for number in group_of}
    seen = {number: {int(origin)} for number, origin in enumerate(gathered.origins)}
    for _, one, other in pairs:
        into, gone = group_of[one], group_of[other]
        if into == gone or seen[into] & seen[gone]:
            continue
        for number in members[gone]:
            group_of[number] = into
        members[into] += members.pop(gone)
        seen[into] |= seen.pop(gone)
    return [np.array(sorted(group)) for group in members.values()]


def _cut(gathered: _Gathered, *, width: int, height: int) -> Booleans:
    """Which boxes touch an edge of their tile that is no edge of the picture."""
    tiles = np.array([tile.corners for tile in gathered.tiles], np.float64).reshape(-1, 4)
    edges = tiles[gathered.origins]
    inner = edges != np.array([0, 0, width, height])
    sides = edges[:, [2, 3, 2, 3]] - edges[:, [0, 1, 0, 1]]
    near = np.abs(gathered.boxes.corners - edges) <= np.maximum(1.0, _AT_THE_EDGE * sides)
    return cast(Booleans, (inner & near).any(axis=1))


def _one(boxes: Boxes, cut: Booleans) -> Boxes:
    """The object that all of these are."""
    strongest = boxes.take(np.argsort(-boxes.scores, kind="stable")[:1])
    whole = boxes.take(~cut).strongest_first(at_most=1)
    if len(whole):
        return strongest.at(whole.corners)
    around = np.concatenate([boxes.corners[:, :2].min(axis=0), boxes.corners[:, 2:].max(axis=0)])
    return strongest.at(around[None])
