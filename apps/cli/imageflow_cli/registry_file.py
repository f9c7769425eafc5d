"""The registry that `imageflow up` writes for its orchestrator: the orchestrator's own default, the user's entries
over it, and the addresses of what was started here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from imageflow_common.errors import InvalidArgument, Violation

Document: TypeAlias = dict[str, Any]
Address: TypeAlias = tuple[str, int]

BUILT_IN: Final = ("resize", "detect", "filter")


class InvalidRegistry(InvalidArgument):
    """A registry file that cannot be read."""

    reason = "INVALID_REGISTRY"


@dataclass(frozen=True, slots=True)
class Entry:
    """One component: started here by `command`, or already running at `addresses` (gRPC targets)."""

    name: str
    command: tuple[str, ...]
    addresses: tuple[str, ...]
    directory: Path | None


@dataclass(frozen=True, slots=True)
class LocalRegistry:
    """The merged registry, before anything has an address here."""

    document: Document
    directory: Path | None
    """Where the user's file is: its commands run there."""

    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entry(name, component) for name, component in self.document["components"].items())

    def _entry(self, name: str, component: Mapping[str, Any]) -> Entry:
        command = tuple(component.get("command", ()))
        addresses = tuple(target["address"] for target in component["targets"].values() if "address" in target)
        ours = command == built_in_command(name)
        return Entry(name, command, () if command else addresses, None if ours else self.directory)

    def with_addresses(self, started: Mapping[str, Sequence[Address]]) -> str:
        """The registry's text, with every target of what was started here at its new address. Raises InvalidRegistry
        with every fault that the orchestrator would find."""
        components = {
            name: _at(component, started[name]) if name in started else dict(component)
            for name, component in self.document["components"].items()
        }
        text = yaml.safe_dump({**self.document, "components": components}, sort_keys=False)
        _check(text)
        return text


def built_in_command(name: str) -> tuple[str, ...]:
    """Runs a service of ours with the Python that runs this."""
    return (sys.executable, "-m", f"imageflow_{name}")


def load_registry(file: Path | None) -> LocalRegistry:
    """Raises InvalidRegistry with every fault that would keep the components from being started; `with_addresses`
    finds the rest."""
    base = _default_registry()
    if file is None:
        return LocalRegistry(base, None)
    user = _read(file)
    components = dict(base["components"])
    for name, entry in user.get("components", {}).items():
        components[name] = _merged(components.get(name, {}), entry)
    profiles = {**base.get("profiles", {}), **(user.get("profiles") or {})}
    return LocalRegistry({**base, **user, "profiles": profiles, "components": components}, file.resolve().parent)


def _default_registry() -> Document:
    text = files("imageflow_orchestrator").joinpath("registry.yaml").read_text(encoding="utf-8")
    document: Document = yaml.safe_load(text)
    for name in BUILT_IN:
        document["components"][name]["command"] = list(built_in_command(name))
    return document


def _read(file: Path) -> Document:
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRegistry(f"{file} cannot be read: {getattr(exc, 'strerror', None) or 'not UTF-8'}") from exc
    except yaml.YAMLError as exc:
        raise InvalidRegistry(f"{file} is not YAML: {exc}") from exc
    violations = _faults(document)
    if violations:
        raise InvalidRegistry(f"{file} is not a registry", violations=violations)
    return document if document is not None else {}


def _faults(document: object) -> list[Violation]:
    if document is None:
        return []
    if not isinstance(document, dict) or not isinstance(document.get("components", {}), dict):
        return [Violation("components", "expected a mapping of names to entries")]
    found = []
    for name, entry in document.get("components", {}).items():
        found += [Violation(f"components.{name}{path}", text) for path, text in _entry_faults(name, entry)]
    return found


def _entry_faults(name: object, entry: object) -> list[tuple[str, str]]:
    if not isinstance(entry, dict):
        return [("", "expected a mapping")]
    command, targets = entry.get("command", []), entry.get("targets", {})
    found = []
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        found.append((".command", "expected a list of texts"))
    if "address" in entry and not isinstance(entry["address"], str):
        found.append((".address", "expected a text"))
    if not isinstance(targets, dict) or not all(isinstance(target, dict) for target in targets.values()):
        found.append((".targets", "expected a mapping of names to targets"))
    elif not command:
        found += [(f".targets.{key}.address", "required") for key, target in targets.items() if "address" not in target]
        if name not in BUILT_IN and not targets and "address" not in entry:
            found.append(("", "needs a command to start it by, or the address where it runs"))
    return found


def _check(text: str) -> None:
    from imageflow_orchestrator.registry import parse_registry

    try:
        parse_registry(text)
    except InvalidArgument as exc:
        raise InvalidRegistry("the orchestrator would refuse the registry", violations=exc.violations) from exc


def _merged(base: Mapping[str, Any], entry: Mapping[str, Any]) -> Document:
    """An entry that says where the component runs, and not how to start it, is not started here."""
    merged = {**base, **entry}
    address = merged.pop("address", None)
    if address is not None:
        merged["targets"] = {"default": {"address": address}}
    if "command" not in entry and ("targets" in entry or address is not None):
        merged.pop("command", None)
    merged["targets"] = {name: _sized(target) for name, target in merged.get("targets", {"default": {}}).items()}
    return merged


def _sized(target: Mapping[str, Any]) -> Mapping[str, Any]:
    return target if "profile" in target or "resources" in target else {**target, "profile": "medium"}


def _at(component: Mapping[str, Any], places: Sequence[Address]) -> Document:
    address = "ipv4:" + ",".join(f"{host}:{port}" for host, port in places)
    moved = {name: {**target, "address": address} for name, target in component["targets"].items()}
    return {**{key: value for key, value in component.items() if key != "command"}, "targets": moved}
