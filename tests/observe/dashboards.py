"""The queries of the dashboards' panels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "observability" / "dashboards"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel; `source` is the kind of its data source."""

    board: str
    panel: str
    source: str
    text: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel}"


def queries() -> list[Query]:
    return list(_queries())


def _queries() -> Iterator[Query]:
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                text = target.get("expr") or target["operation"]
                yield Query(file.stem, panel["title"], panel["datasource"]["type"], text)
