"""An execution's record as JSON, written over and over while it runs: only what changed is encoded anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from imageflow.v1.record_pb2 import ExecutionRecord

M = TypeVar("M", bound=Message)

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class RecordEncoder:
    """Encodes one record. A write costs what changed since the one before, and little for each step besides; a run of a
    thousand steps would else spend most of its time on writing down what is written down already."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[bytes, str]] = {}

    def encode(self, record: ExecutionRecord) -> bytes:
        """The same JSON, but for the order of its members, as protobuf's own."""
        parts = {
            "execution": _with(
                _text(_but(record.execution, "results")), results=self._all("results", record.execution.results)
            ),
            "steps": self._all("steps", record.steps),
        }
        if record.HasField("request"):
            parts["request"] = self._part("request", "", record.request)
        return _with(_text(_but(record, "execution", "steps", "request")), **parts).encode()

    def _all(self, kind: str, messages: Mapping[str, Message]) -> str:
        members = (f"{_JSON.encode(name)}:{self._part(kind, name, message)}" for name, message in messages.items())
        return f"{{{','.join(members)}}}"

    def _part(self, kind: str, name: str, message: Message) -> str:
        data = message.SerializeToString()
        known = self._known.get((kind, name))
        if known is None or known[0] != data:
            known = self._known[kind, name] = data, _text(message)
        return known[1]


def _but(message: M, *names: str) -> M:
    """A copy without some of the fields."""
    return type(message)(**{field.name: value for field, value in message.ListFields() if field.name not in names})


def _text(message: Message) -> str:
    return _JSON.encode(MessageToDict(message))


def _with(text: str, **members: str) -> str:
    """The text of an object, with further members, given as text."""
    all_members = (text[1:-1], *(f'"{name}":{member}' for name, member in members.items()))
    return f"{{{','.join(filter(None, all_members))}}}"
