"""Reads the product's Server-Timing header."""

from __future__ import annotations

import re
from collections import defaultdict

_ENTRY = re.compile(r'([\w-]+);dur=([\d.]+)(?:;desc="([^"]*)")?')
_OF_A_STEP = ("transport", "decode", "compute", "encode")
_OF_THE_RUN = frozenset({"total", "overhead", "queue", "plan"})


def read_parts(header: str, wall_ms: float) -> dict[str, float]:
    """The parts (samples.PARTS) of a request that its caller waited `wall_ms` for."""
    run: dict[str, float] = {}
    parts: dict[str, float] = defaultdict(float)
    in_steps = 0.0
    for name, duration, detail in _ENTRY.findall(header):
        milliseconds = float(duration)
        if name in _OF_THE_RUN:
            run[name] = milliseconds
            continue
        inside = {key: float(value) for key, _, value in (pair.partition("=") for pair in detail.split())}
        in_steps += milliseconds
        parts["queue"] += inside["queue"]
        parts["hand-over"] += milliseconds - sum(inside.values())
        for part in _OF_A_STEP:
            parts[part] += inside[part]
    busy = run["total"] - run["overhead"] - run["queue"] - run["plan"]
    return {
        **parts,
        "queue": parts["queue"] + run["queue"],
        "plan": run["plan"],
        "orchestrator": run["overhead"],
        "gateway + client": wall_ms - run["total"],
        "overlap": busy - in_steps,
    }
