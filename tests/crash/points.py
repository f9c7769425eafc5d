"""The points of an execution at which the orchestrator can be killed: before, within and after whatever it does
outside itself. Those before acceptance is stored and after the marker is gone are not in running work."""

from __future__ import annotations

POINT_VARIABLE, COUNT_VARIABLE = "CRASH_POINT", "CRASH_COUNT"

_WRITES = (
    *("marker", "index", "record-created"),
    *("running-record", "checkpoint", "terminal-record"),
    *("artifact", "output", "metadata"),
)
_WHENS = ("before", "within", "after")

POINTS = (
    *(f"{write}:{when}" for write in _WRITES for when in _WHENS),
    *(
        f"{what}:{when}"
        for what in ("call", "progress", "completion", "marker-removed")
        for when in ("before", "after")
    ),
)

OUTSIDE = frozenset(
    {
        *(f"{write}:{when}" for write in ("marker", "index") for when in _WHENS),
        *("record-created:before", "record-created:within", "marker-removed:after"),
    }
)
