"""Letters that need no font: containers have none. Strokes of our own design, drawn smooth at any size.

A glyph is a set of strokes on a grid: two hexadecimal digits per point, x to the right and y down. Capitals
stand from y = 0 to the baseline at y = 12, small letters begin at y = 4, descenders end at y = 15. A stroke
that begins with `~` is a curve: a quadratic B-spline by Chaikin's corner cutting ("An algorithm for
high-speed curve generation", 1974), which keeps its end points.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

Coverage = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

CAPITAL: Final = 12.0
DESCENT: Final = 3.0
_STROKE: Final = 1.7
_GAP: Final = 2.6
_SPACE: Final = 2.0
_CUTS: Final = 3

_ROUND: Final = "~3464686c3c0c080434"
_UNKNOWN: Final = "00606c0c00"
_STROKES: Final[dict[str, str]] = {
    "A": "0c408c 1979",
    "B": "000c ~00407073764606 ~065686898c5c0c",
    "C": "~83804000060c4c8c89",
    "D": "000c ~004080868c4c0c",
    "E": "70000c7c 0666",
    "F": "70000c 0666",
    "G": "~83804000060c4c8c87 8747",
    "H": "000c 808c 0686",
    "I": "0040 202c 0c4c",
    "J": "~606a6c3c0c09",
    "K": "000c 8007 348c",
    "L": "000c7c",
    "M": "0c0057a0ac",
    "N": "0c008c80",
    "O": "~4080868c4c0c060040",
    "P": "000c ~00508084875707",
    "Q": "~4080868c4c0c060040 599d",
    "R": "000c ~00508083865606 468c",
    "S": "~8380400003064686898c4c0c09",
    "T": "0080 404c",
    "U": "~00080c4c8c8880",
    "V": "004c80",
    "W": "002c528ca0",
    "X": "008c 0c80",
    "Y": "004680 464c",
    "Z": "00800c8c",
    "a": "~05043464686c ~673707090c3c6c69",
    "b": f"000c {_ROUND}",
    "c": "~66643404080c3c6c6a",
    "d": f"606c {_ROUND}",
    "e": "0868 ~68643404080c3c6c6a",
    "f": "~5020242c 0454",
    "g": f"{_ROUND} ~646c6f3f0f0e",
    "h": "000c ~08043464686c",
    "i": "040c 0000",
    "j": "~343d3f0f 3030",
    "k": "000c 6409 276c",
    "l": "~000a0c2c",
    "m": "040c ~07042454575c ~575474a4a7ac",
    "n": "040c ~08043464686c",
    "o": _ROUND,
    "p": f"040f {_ROUND}",
    "q": f"646f {_ROUND}",
    "r": "040c ~08043454",
    "s": "~65643404060838686a6c3c0c0b",
    "t": "~202a2c5c 0454",
    "u": "~04080c3c6c6864 646c",
    "v": "043c64",
    "w": "042c456c84",
    "x": "046c 0c64",
    "y": "043c 642f",
    "z": "04640c6c",
    "0": "~3060666c3c0c060030",
    "1": "03303c",
    "2": "~03003060640c 0c6c",
    "3": "~02003060636626 ~2666696c3c0c0a",
    "4": "5c500979",
    "5": "600005 ~053565686c3c0c0a",
    "6": "~62603000080c3c6c6865350508",
    "7": "00601c",
    "8": "~306063663606030030 ~36666c3c0c0636",
    "9": "~0a0c3c6c646030000407376764",
    ".": "0c0c",
    ",": "1b0e",
    ":": "0505 0c0c",
    ";": "1515 1b0e",
    "!": "0008 0c0c",
    "?": "~02003060643639 3c3c",
    "'": "0003",
    '"': "0003 3033",
    "-": "0747",
    "_": "0e8e",
    "+": "0868 353b",
    "=": "0666 0a6a",
    "*": "3137 0265 0562",
    "/": "0d60",
    "\\": "006d",
    "|": "000e",
    "(": "~30030b3e",
    ")": "~00333b0e",
    "[": "30000e3e",
    "]": "00303e0e",
    "{": "~40202307 ~072b2e4e",
    "}": "~00202347 ~472b2e0e",
    "<": "64086c",
    ">": "04680c",
    "#": "302c 807c 0494 0898",
    "$": "~8380400003064686898c4c0c09 404c",
    "%": "0c80 ~203033030020 ~79898c5c5979",
    "&": "~7c13105053070c4c77",
    "@": "~74444a7a ~747aaaa7a05000070d4d8d",
    "^": "033063",
    "`": "0023",
    "~": "~0805375976",
}


def text_coverage(text: str, *, capital: float) -> Coverage:
    """How much ink each pixel has, float32 0…1, (H, W): one line with capitals `capital` pixels high.

    The first row is the top of the capitals, the last is below the descenders; there is room for the strokes'
    thickness all round. Letters lose their marks; any other unknown character is an empty rectangle.
    """
    glyphs = [_glyph(_known(character), capital) for character in text] or [_glyph(" ", capital)]
    return np.concatenate(glyphs, axis=1)


def _known(character: str) -> str:
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base in _STROKES else " " if base.isspace() else "\N{REPLACEMENT CHARACTER}"


@lru_cache(maxsize=256)
def _glyph(character: str, capital: float) -> Coverage:
    """One character in a cell of whole pixels, half of the gap on either side. Read-only: it is shared."""
    unit = capital / CAPITAL
    strokes = _strokes(character)
    advance = max((stroke[:, 0].max() for stroke in strokes), default=_SPACE) + _STROKE + _GAP
    width = max(1, round(advance * unit))
    height = int(np.ceil((CAPITAL + DESCENT + _STROKE) * unit)) + 1
    radius = max(_STROKE * unit / 2, 0.6)
    origin = np.array([(width - (advance - _STROKE - _GAP) * unit) / 2, _STROKE * unit / 2 + 0.5])
    y, x = np.mgrid[0:height, 0:width] + 0.5
    nearest = np.full((height, width), np.inf)
    for stroke in strokes:
        placed = stroke * unit + origin
        for start, end in pairwise(placed):
            np.minimum(nearest, _distance(x, y, start, end), out=nearest)
    coverage = np.clip(radius + 0.5 - nearest, 0.0, 1.0).astype(np.float32)
    coverage.flags.writeable = False
    return coverage


def _distance(x: Points, y: Points, start: Points, end: Points) -> Points:
    """From every pixel to a line from start to end, in pixels; a line without length is a dot."""
    along_x, along_y = end - start
    squared = along_x * along_x + along_y * along_y
    part = ((x - start[0]) * along_x + (y - start[1]) * along_y) / squared if squared else np.zeros_like(x)
    part = np.clip(part, 0.0, 1.0)
    distance: Points = np.hypot(x - start[0] - part * along_x, y - start[1] - part * along_y)
    return distance


@lru_cache(maxsize=256)
def _strokes(character: str) -> tuple[Points, ...]:
    """The strokes of a known character as lines through points (N, 2) on the grid."""
    written = "" if character == " " else _STROKES.get(character, _UNKNOWN)
    return tuple(_smooth(_points(each[1:])) if each[0] == "~" else _points(each) for each in written.split())


def _points(written: str) -> Points:
    digits = [int(digit, 16) for digit in written]
    return np.array(digits, np.float64).reshape(-1, 2)


def _smooth(points: Points) -> Points:
    for _ in range(_CUTS):
        first, second = points[:-1], points[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut[1:-1], points[-1:]])
    return points
