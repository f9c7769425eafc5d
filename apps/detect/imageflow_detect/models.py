"""The model repository, in Triton's layout, so that one folder serves ONNX Runtime here and Triton elsewhere:

    models/<name>/config.pbtxt
    models/<name>/manifest.yaml
    models/<name>/<version>/model.onnx

A version is a whole number from 1; its file never changes once it is there (a new file is a new version).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imageflow_common.errors import FailedPrecondition, Violation
from imageflow_detect.manifest import MAX_MANIFEST_BYTES, NAME_PATTERN, Manifest, ModelInvalid

MODEL_FILE: Final = "model.onnx"
MANIFEST_FILE: Final = "manifest.yaml"
HOW_TO_ADD: Final = "add one with: imageflow models add FILE.onnx --name NAME --labels a,b,c"

_NAME: Final = re.compile(NAME_PATTERN)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")
_MOST_NAMES_IN_A_MESSAGE: Final = 20
_TICKS_NS: Final = 2_000_000_000


class ModelNotFound(FailedPrecondition):
    """No such model, or no such version of it, in the repository."""

    reason = "MODEL_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Model:
    """One version of one model. `file` exists and lies inside the repository."""

    name: str
    version: int
    manifest: Manifest
    file: Path

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def key(self) -> tuple[str, int]:
        """What tells this model from every other of its repository."""
        return self.name, self.version


@dataclass(frozen=True, slots=True)
class _ReadManifest:
    stamp: tuple[int, int, int]
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A model, and how everything looked that it depends on: when nothing has changed since, it is still the one."""

    model: Model
    looks: Mapping[Path, tuple[int, int, int]]

    def still_holds(self) -> bool:
        return all(_look(path) == look for path, look in self.looks.items())


class ModelRepository:
    """Reads a folder of models; safe to use from any thread. What is added, changed or removed while it runs is seen
    with the next call: the folders' and files' times are looked at, and what has not changed is not read again.

    Names are confined: nothing outside `directory` is ever opened, neither by `..` nor by a symbolic link.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._manifests: dict[str, _ReadManifest] = {}
        self._resolved: dict[tuple[str, str], _Resolved] = {}
        self._lock = threading.Lock()

    @property
    def directory(self) -> Path:
        return self._directory

    def names(self) -> tuple[str, ...]:
        """The models with at least one version, sorted; empty when the folder does not exist."""
        return tuple(sorted(name for name in _entries(self._directory) if self.versions(name)))

    def unready(self) -> str:
        """Why nothing can be detected, empty when there is a model."""
        return "" if self.names() else f"there is no model in {self._directory}; {HOW_TO_ADD}"

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a model, ascending; empty when there is no such model."""
        folder = self._confined(name)
        if folder is None:
            return ()
        numbers = (int(entry) for entry in _entries(folder) if _VERSION.fullmatch(entry))
        return tuple(sorted(number for number in numbers if self._file(name, number)))

    def resolve(self, name: str, version: str = "") -> Model:
        """The model; without a version its newest, which is the largest number.

        Raises ModelNotFound, whose text names what there is, and ModelInvalid for a manifest with faults.
        """
        known = self._resolved.get((name, version))
        if known is not None and known.still_holds():
            return known.model
        self._resolved.pop((name, version), None)
        looks = self._looks(name)
        model = self._resolve(name, version)
        if _are_old(looks):
            self._resolved[name, version] = _Resolved(model, looks)
        return model

    def _resolve(self, name: str, version: str) -> Model:
        versions = self.versions(name)
        if not versions:
            raise self._no_model(name)
        number = _chosen(versions, version)
        file = self._file(name, number) if number else None
        if number is None or file is None:
            there = ", ".join(str(each) for each in versions)
            raise ModelNotFound(f"model '{name}' has no version {_quoted(version)}; there are: {there}")
        return Model(name, number, self._manifest(name), file)

    def _looks(self, name: str) -> dict[Path, tuple[int, int, int]]:
        """Of everything that decides which file and manifest a model has; empty for a name that is none."""
        if not _NAME.fullmatch(name):
            return {}
        folder = self._directory / name
        versions = [folder / entry for entry in _entries(folder) if _VERSION.fullmatch(entry)]
        files = [version / MODEL_FILE for version in versions]
        return {path: _look(path) for path in (self._directory, folder, folder / MANIFEST_FILE, *versions, *files)}

    def _manifest(self, name: str) -> Manifest:
        """Read again only when the file has changed."""
        file = self._confined(name, MANIFEST_FILE)
        if file is None:
            raise ModelInvalid(
                f"model '{name}' has no {MANIFEST_FILE}", violations=[Violation(MANIFEST_FILE, "missing")]
            )
        status = file.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        with self._lock:
            known = self._manifests.get(name)
        if known is not None and known.stamp == stamp:
            return known.manifest
        if status.st_size > MAX_MANIFEST_BYTES:
            raise ModelInvalid(f"the manifest of model '{name}' is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = Manifest.parse(_text(file, name), name=name)
        with self._lock:
            self._manifests[name] = _ReadManifest(stamp, manifest)
        return manifest

    def _file(self, name: str, version: int) -> Path | None:
        file = self._confined(name, str(version), MODEL_FILE)
        return file if file is not None and file.is_file() else None

    def _confined(self, name: str, *parts: str) -> Path | None:
        """The real path of something under the model's folder; None when it is not there or leads outside."""
        if not _NAME.fullmatch(name):
            return None
        try:
            root = self._directory.resolve(strict=True)
            path = root.joinpath(name, *parts).resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        return path if path.is_relative_to(root) and path != root else None

    def _no_model(self, name: str) -> ModelNotFound:
        names = self.names()
        there = f"there are: {', '.join(names[:_MOST_NAMES_IN_A_MESSAGE])}" if names else "there are none"
        more = len(names) - _MOST_NAMES_IN_A_MESSAGE
        there += f" and {more} more" if more > 0 else ""
        return ModelNotFound(f"no model {_quoted(name)} in the model repository; {there}; {HOW_TO_ADD}")


def _look(path: Path) -> tuple[int, int, int]:
    """What changes with a file or folder: its number, its time and its size; of a link, those of the link."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _are_old(looks: Mapping[Path, tuple[int, int, int]]) -> bool:
    """Whether a further change is sure to show in a time: clocks of files tick some hundred times a second."""
    return max((mtime for _, mtime, _ in looks.values()), default=0) < time.time_ns() - _TICKS_NS


def _chosen(versions: tuple[int, ...], version: str) -> int | None:
    if not version:
        return versions[-1]
    wanted = int(version) if _VERSION.fullmatch(version) else None
    return wanted if wanted in versions else None


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(file: Path, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelInvalid(f"the manifest of model '{name}' cannot be read") from exc


def _quoted(text: str) -> str:
    """A caller's text, short enough and printable, in quotes."""
    return f"'{text[:128]}'" if text.isprintable() else repr(text[:128])
