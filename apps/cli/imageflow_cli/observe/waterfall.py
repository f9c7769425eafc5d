"""A trace as a picture for a terminal: what ran when, below what, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .traces import Span, Trace

_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One span: how deep it lies, and its place in time, in milliseconds from the start of the trace."""

    depth: int
    span: Span
    start_ms: float
    bar: str


def waterfall(trace: Trace) -> list[Row]:
    """Spans below their parents, in order of start. What has no parent here stands at the top. Clocks of several
    machines may disagree: a bar stays within the picture all the same."""
    if not trace:
        return []
    begin = min(span.start_us for span in trace)
    length_ms = max((span.start_us - begin) / 1e3 + span.duration_ms for span in trace) or 1.0
    rows = []
    for depth, span in _below(trace):
        start_ms = (span.start_us - begin) / 1e3
        rows.append(Row(depth, span, start_ms, _bar(start_ms / length_ms, span.duration_ms / length_ms)))
    return rows


def _below(trace: Trace) -> list[tuple[int, Span]]:
    known = {span.span_id for span in trace}
    children: dict[str, list[Span]] = {}
    for span in trace:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    found: list[tuple[int, Span]] = []
    waiting = [(0, span) for span in reversed(children.get("", []))]
    while waiting:
        depth, span = waiting.pop()
        found.append((depth, span))
        waiting += [(depth + 1, child) for child in reversed(children.get(span.span_id, []))]
    return found


def _bar(start: float, length: float) -> str:
    before = min(int(start * _WIDTH), _WIDTH - 1)
    return " " * before + "█" * max(1, min(round(length * _WIDTH), _WIDTH - before))


def coverage(trace: Sequence[Span]) -> float:
    """The share of the first span's time in which at least one span below it ran."""
    root, *others = sorted(trace, key=lambda span: (span.parent_id in {s.span_id for s in trace}, span.start_us))
    end_us = root.start_us + root.duration_ms * 1e3
    covered, reached = 0.0, float(root.start_us)
    for span in sorted(others, key=lambda span: span.start_us):
        until = min(span.start_us + span.duration_ms * 1e3, end_us)
        covered += max(0.0, until - max(reached, span.start_us))
        reached = max(reached, until)
    return covered / (root.duration_ms * 1e3) if root.duration_ms else 1.0
