"""Faults, collected so that all are reported together, each with a path and a sentence."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from imageflow_common.errors import Violation

_SHOWN_CHARACTERS = 80
_COMPARED_CHARACTERS = 128


class Faults:
    """The faults found so far.

    Comparing names is quadratic, so suggestions stop when `comparisons` are spent.
    """

    def __init__(self, *, comparisons: int = 20_000) -> None:
        self.violations: list[Violation] = []
        self._comparisons = comparisons

    def add(self, path: str, sentence: str) -> None:
        self.violations.append(Violation(path, sentence))

    def suggest(self, word: str, known: Collection[str]) -> str:
        """`; did you mean 'resize'?` for the nearest known word; empty when none is near."""
        self._comparisons -= len(known)
        if self._comparisons < 0 or len(word) > _COMPARED_CHARACTERS:
            return ""
        near = difflib.get_close_matches(word, known, n=1)
        return f"; did you mean {near[0]!r}?" if near else ""


def quoted(text: str) -> str:
    """Somebody's text in quotation marks, cut to a length that fits a sentence."""
    return repr(clipped(text))


def clipped(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def listed(names: Collection[str], *, most: int = 8) -> str:
    """`a, b, c`, cut after the first few."""
    shown = ", ".join(list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
