"""The long form of these tests, and its reports: `make prove`."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from .stage import TREE

PROVE = os.environ.get("IMAGEFLOW_PROVE") == "1"
SHARE = float(os.environ.get("IMAGEFLOW_PROVE_SHARE") or 1)
"""How much of the proof is made: with less than all of it no report is written, for it proves only that it runs."""
WHOLE = PROVE and SHARE == 1
COMMIT = (
    subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=TREE, capture_output=True, text=True, check=False
    ).stdout.strip()
    or "unknown"
)
"""As it was when this began: the tree may change while a long proof runs."""
REPORTS = TREE / "docs" / "proof"


def share_of(amount: int, *, at_least: int = 1) -> int:
    return max(at_least, round(SHARE * amount))


def write_report(name: str, title: str, summary: str, *parts: str) -> None:
    """Writes docs/proof/{name}.md: what was proven, where and when, then the parts; nothing of a share of a proof."""
    if not WHOLE:
        return
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    made = (
        f"Made by `make prove` on {when}, commit {COMMIT}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load average of the last 15 minutes {os.getloadavg()[2]:.1f}. Above the cores, other work ran beside this, "
        "and the times are no measurement."
    )
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{name}.md").write_text("\n\n".join([f"# {title}", summary, made, *parts]) + "\n")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
