"""The objects of a local store in the order of their keys, without entering a folder that cannot hold any
wanted.

A key's characters compare as its UTF-8 bytes do. A folder sorts as its prefix, `name/`, so that `a`, `a-b`
and `a/c` come in this order although `a-b` is a file beside the folder `a`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from imageflow_common.store import ObjectKey, ObjectSummary
from imageflow_common.store_local_names import PART, Names, read_name, spell_folders
from imageflow_common.store_local_tree import Tree, generation_of


class _Entry(NamedTuple):
    """`key` is an object's key, or a folder's prefix with the '/' behind it."""

    key: str
    names: Names
    is_folder: bool


def list_objects(tree: Tree, prefix: str, after: str) -> Iterator[ObjectSummary]:
    """Objects whose keys start with `prefix` and come behind `after`, in order. Blocks; at most one folder's
    names, and those of the folders around it, are in memory.
    """
    segments = prefix.split("/")[:-1]
    start = "".join(segment + "/" for segment in segments)
    names = spell_folders(segments, fold_case=tree.fold_case)
    waiting = [_Entry(start, names, is_folder=True)]
    while waiting:
        entry = waiting.pop()
        if entry.is_folder:
            waiting.extend(sorted(_wanted(tree, entry, prefix, after), reverse=True))
        elif (summary := _summary(tree, entry)) is not None:
            yield summary


def modified_of(status: os.stat_result) -> datetime:
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


def _wanted(tree: Tree, folder: _Entry, prefix: str, after: str) -> Iterator[_Entry]:
    for entry in _read_folder(tree, folder):
        if entry.is_folder:
            holds_prefix = entry.key.startswith(prefix) or prefix.startswith(entry.key)
            if holds_prefix and (after < entry.key or after.startswith(entry.key)):
                yield entry
        elif entry.key.startswith(prefix) and after < entry.key:
            yield entry


def _read_folder(tree: Tree, folder: _Entry) -> Iterator[_Entry]:
    depth = len(folder.names)
    parts = [folder.names]
    while parts:
        names = parts.pop()
        for name, is_folder in _scan(tree, names):
            path = (*names, name)
            if is_folder and name.endswith(PART):
                parts.append(path)
                continue
            segment = read_name(path[depth:], folder=is_folder, fold_case=tree.fold_case)
            if segment is not None:
                yield _Entry(folder.key + segment + ("/" if is_folder else ""), path, is_folder)


def _scan(tree: Tree, names: Names) -> Iterator[tuple[str, bool]]:
    try:
        with tree.folder(names) as fd, os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield entry.name, True
                elif entry.is_file(follow_symlinks=False):
                    yield entry.name, False
    except (FileNotFoundError, NotADirectoryError):
        return  # removed meanwhile, or a link


def _summary(tree: Tree, entry: _Entry) -> ObjectSummary | None:
    try:
        with tree.folder(entry.names[:-1]) as folder:
            status = tree.status(folder, entry.names[-1])
    except (FileNotFoundError, NotADirectoryError):
        return None
    if status is None:
        return None
    return ObjectSummary(ObjectKey(entry.key), status.st_size, generation_of(status), modified_of(status))
