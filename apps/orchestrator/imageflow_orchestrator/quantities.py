"""Kubernetes quantities: what a step needs and what a target has, as whole millicores, bytes and GPUs.

The grammar is that of k8s.io/apimachinery resource.Quantity: a decimal number with a suffix of n u m k M G T
P E, Ki Mi Gi Ti Pi Ei, or a decimal exponent. Like there, a value finer than the unit is rounded up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import NewType

from imageflow_common.errors import InvalidArgument

MilliCpu = NewType("MilliCpu", int)
ByteCount = NewType("ByteCount", int)

_PATTERN = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ResourceAmounts:
    """An amount of each resource."""

    cpu: MilliCpu = MilliCpu(0)
    memory: ByteCount = ByteCount(0)
    gpu: int = 0

    def covers(self, needed: ResourceAmounts) -> bool:
        """Whether there is at least as much of everything as `needed`."""
        return self.cpu >= needed.cpu and self.memory >= needed.memory and self.gpu >= needed.gpu

    def size(self) -> tuple[int, int, int]:
        """A key to sort by: GPUs are dearest, then memory, then processor time."""
        return (self.gpu, self.memory, self.cpu)

    def __str__(self) -> str:
        parts = [f"{_in_cores(self.cpu)} cpu", f"{_in_bytes(self.memory)} memory"]
        return ", ".join([*parts, f"{self.gpu} gpu"] if self.gpu else parts)


def parse_cpu(text: str) -> MilliCpu:
    """`500m`, `2` or `0.5` as millicores; raises InvalidArgument."""
    return MilliCpu(_whole(text, per_unit=1000, example="500m"))


def parse_memory(text: str) -> ByteCount:
    """`256Mi`, `1G` or a number of bytes; raises InvalidArgument."""
    return ByteCount(_whole(text, per_unit=1, example="256Mi"))


def parse_gpu(text: str) -> int:
    """A whole number of GPUs; raises InvalidArgument."""
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise InvalidArgument(f"{_shown(text)} is not a whole number of GPUs such as '1'")
    return int(text)


def _whole(text: str, *, per_unit: int, example: str) -> int:
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"{_shown(text)} is not a quantity such as '{example}'")
    number, suffix, exponent = match.groups()
    value = Decimal(number).scaleb(int(exponent or _DECIMAL.get(suffix, 0))) * 2 ** _BINARY.get(suffix, 0)
    whole = (value * per_unit).to_integral_value(rounding=ROUND_CEILING)
    if whole > _LARGEST:
        raise InvalidArgument(f"{_shown(text)} is larger than any machine")
    return int(whole)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _in_cores(cpu: MilliCpu) -> str:
    return f"{cpu}m" if cpu % 1000 else str(cpu // 1000)


def _in_bytes(memory: ByteCount) -> str:
    for suffix, power in reversed(_BINARY.items()):
        if memory and memory % (1 << power) == 0:
            return f"{memory >> power}{suffix}"
    return str(memory)
