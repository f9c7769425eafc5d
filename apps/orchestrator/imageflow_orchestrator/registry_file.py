"""Reads a registry file: every fault is collected with its path, and nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from datetime import timedelta
from typing import TypeAlias, TypeVar, cast

import yaml

from imageflow_common.errors import InvalidArgument

from .component_spec import Target
from .definition import JsonValue
from .faults import Faults, clipped, listed, quoted
from .quantities import ByteCount, MilliCpu, ResourceAmounts, parse_cpu, parse_gpu, parse_memory

Fields: TypeAlias = Mapping[str, JsonValue]
Q = TypeVar("Q", bound=int)

_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60}
_MAX_IN_FLIGHT = 100_000


class UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                mark = node.value[place][0].start_mark
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", mark)
        return super().construct_mapping(node, deep)


class FieldReader:
    """Reads fields of the wrong or right type; a wrong one is a fault at its path and reads as empty."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults

    def mapping(self, value: JsonValue, path: str, *, keys: tuple[str, ...] | None = None) -> Fields:
        """A mapping; `keys` are the ones it may have."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.faults.add(path, f"expected a mapping, got {_kind(value)}")
            return {}
        for key in value:
            if not isinstance(key, str):
                self.faults.add(path, f"expected names as keys, got {key!r}; put it in quotation marks")
            elif keys is not None and key not in keys:
                hint = self.faults.suggest(key, keys) or f"; there are {listed(keys, most=12)}"
                self.faults.add(joined(path, key), f"unknown field{hint}")
        return {key: item for key, item in value.items() if isinstance(key, str)}

    def text(self, value: JsonValue, path: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self.faults.add(path, "missing" if value is None else f"expected text, got {_kind(value)}")
        return ""

    def texts(self, value: JsonValue, path: str) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self.faults.add(path, f"expected a list of text, got {_kind(value)}")
            return ()
        return tuple(self.text(item, f"{path}[{number}]") for number, item in enumerate(value))

    def duration(self, value: JsonValue, path: str) -> timedelta | None:
        """`500ms`, `30s`, `2m`, or a number of seconds; more than 0 and at most 24 hours."""
        if value is None:
            return None
        match = _DURATION.fullmatch(f"{value}s" if isinstance(value, int | float) else str(value))
        read = timedelta(seconds=float(match[1]) * _SECONDS[match[2]]) if match else timedelta(0)
        if not timedelta(0) < read <= timedelta(hours=24):
            self.faults.add(path, f"{quoted(str(value))} is not a time such as '30s', at most 24 hours")
            return None
        return read

    def amounts(self, value: JsonValue, path: str) -> ResourceAmounts:
        fields = self.mapping(value, path, keys=("cpu", "memory", "gpu"))
        return ResourceAmounts(
            self._quantity(parse_cpu, fields.get("cpu"), MilliCpu(0), f"{path}.cpu", required=True),
            self._quantity(parse_memory, fields.get("memory"), ByteCount(0), f"{path}.memory", required=True),
            self._quantity(parse_gpu, fields.get("gpu"), 0, f"{path}.gpu", required=False),
        )

    def targets(self, value: JsonValue, path: str, profiles: Mapping[str, ResourceAmounts]) -> tuple[Target, ...]:
        entries = self.mapping(value, path)
        if not entries:
            self.faults.add(path, "name at least one target, such as 'default'")
        return tuple(self._target(name, entry, joined(path, name), profiles) for name, entry in entries.items())

    def _target(self, name: str, value: JsonValue, path: str, profiles: Mapping[str, ResourceAmounts]) -> Target:
        fields = self.mapping(value, path, keys=("address", "profile", "resources", "max_in_flight"))
        address = self.text(fields.get("address"), f"{path}.address")
        if address != "".join(address.split()):
            self.faults.add(f"{path}.address", f"{quoted(address)} has a space in it")
        amounts = self._amounts_of_target(fields, path, profiles)
        return Target(name, address, amounts, self._in_flight(fields.get("max_in_flight"), path))

    def _amounts_of_target(self, fields: Fields, path: str, profiles: Mapping[str, ResourceAmounts]) -> ResourceAmounts:
        if ("profile" in fields) == ("resources" in fields):
            self.faults.add(path, "give either a profile or resources")
        if "resources" in fields:
            return self.amounts(fields["resources"], f"{path}.resources")
        if "profile" not in fields:
            return ResourceAmounts()
        profile = self.text(fields["profile"], f"{path}.profile")
        if profile and profile not in profiles:
            hint = self.faults.suggest(profile, profiles) or f"; there are {listed(profiles) or 'none'}"
            self.faults.add(f"{path}.profile", f"unknown profile {quoted(profile)}{hint}")
        return profiles.get(profile, ResourceAmounts())

    def _in_flight(self, value: JsonValue, path: str) -> int | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_IN_FLIGHT:
            self.faults.add(f"{path}.max_in_flight", f"expected a whole number from 1 to {_MAX_IN_FLIGHT:,}")
            return None
        return value

    def _quantity(self, parse: Callable[[str], Q], value: JsonValue, otherwise: Q, path: str, *, required: bool) -> Q:
        if value is None and not required:
            return otherwise
        if value is None or isinstance(value, bool | list | dict):
            self.faults.add(path, "missing" if value is None else f"expected a quantity, got {_kind(value)}")
            return otherwise
        try:
            return parse(str(value))
        except InvalidArgument as exc:
            self.faults.add(path, exc.message)
            return otherwise


def load_yaml(text: str) -> JsonValue:
    """The document, of types that JSON has too.

    Raises InvalidArgument with the line and column of a fault.
    """
    try:
        return cast(JsonValue, yaml.load(text, Loader=UniqueKeyLoader))  # noqa: S506  # it is a SafeLoader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise InvalidArgument(f"not YAML: {where}: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise InvalidArgument("not YAML") from exc


def joined(path: str, key: str) -> str:
    return f"{path}.{clipped(key)}" if path else clipped(key)


def _kind(value: JsonValue) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), f"{value!r}")
