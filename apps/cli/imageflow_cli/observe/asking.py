"""Questions to the HTTP interfaces of stores: JSON, bounded in time, with one error for all that goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from imageflow_cli.web import http_get

from .traces import BackendUnreachable


async def ask_json(name: str, base: str, path: str, parameters: dict[str, str] | None = None) -> Any:
    """The JSON of a 200; None for a 404. Raises BackendUnreachable."""
    query = f"?{urlencode(parameters)}" if parameters else ""
    answer = await http_get(f"{base.rstrip('/')}{path}{query}")
    if answer.status == 404:
        return None
    if answer.status != 200:
        said = answer.body.decode(errors="replace").strip()[:300]
        why = f"answers {answer.status}: {said}" if answer.status else "does not answer"
        raise BackendUnreachable(f"{name} at {base} {why}")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as exc:
        raise BackendUnreachable(f"{name} at {base} answers no JSON") from exc


@contextmanager
def reading(name: str, base: str) -> Iterator[None]:
    """Around what reads an answer. Raises BackendUnreachable for JSON that is none of that store's."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise BackendUnreachable(f"{name} at {base} answers what it should not") from exc
