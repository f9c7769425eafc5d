"""docs/errors.md, read: what each kind of bad input is answered, and which test proves it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from .callers import Refusal, grpc_refusal, http_refusal
from .product import TREE

FILE = TREE / "docs" / "errors.md"
_ROW = re.compile(
    r"^\| (?P<case>[^|]+) \| (?P<code>[^|]+) \| (?P<http>[^|]+) \| (?P<reason>[^|]+) \| `(?P<test>\w+)` \|$"
)
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `http_status` 0 or `code`, `reason` empty: it has none."""

    case: str
    code: str
    http_status: int
    reason: str
    test: str

    def refuses(self, answer: httpx.Response | Refusal | Callable[[], object], *words: str) -> Refusal:
        """Asserts that an answer is as the table has it, and says all of `words`. A callable is a call over gRPC."""
        refusal = _refusal(answer)
        assert (refusal.code, refusal.reason) == (self.code, self.reason), refusal
        if refusal.http_status:
            assert refusal.http_status == self.http_status, refusal
        for word in words:
            assert word in refusal.text, refusal
        for secret in ("Traceback", "/dev/shm", "/tmp/", "site-packages"):
            assert secret not in refusal.text, refusal
        return refusal

    def takes(self, response: httpx.Response) -> None:
        assert (self.code, self.http_status, self.reason) == ("OK", 200, "")
        assert response.status_code == 200, response.text


def read_table(file: Path = FILE) -> dict[str, Row]:
    """The rows by the name of their test. Raises AssertionError for one that is there twice."""
    found = [_row(match) for line in file.read_text().splitlines() if (match := _ROW.match(line))]
    rows = {row.test: row for row in found}
    assert len(rows) == len(found), "a test is named twice"
    return rows


def _row(match: re.Match[str]) -> Row:
    texts = {name: text.strip().strip("`") for name, text in match.groupdict().items()}
    code, http, reason = (texts[name].replace(_NONE, "") for name in ("code", "http", "reason"))
    return Row(texts["case"], code, int(http or 0), reason, texts["test"])


def _refusal(answer: httpx.Response | Refusal | Callable[[], object]) -> Refusal:
    if isinstance(answer, Refusal):
        return answer
    return http_refusal(answer) if isinstance(answer, httpx.Response) else grpc_refusal(answer)
