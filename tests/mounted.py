"""A directory of settings, as the kubelet mounts a ConfigMap."""

from __future__ import annotations

import shutil
from pathlib import Path


class Mounted:
    """Its files are links through `..data` into a folder, and all of them change at once: by another `..data`."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.path = path
        self._number = 0
        self.put(**settings)

    def put(self, **settings: object) -> None:
        """These and no others: `max_in_flight=5`."""
        names = {f"IMAGEFLOW_{name.upper()}": value for name, value in settings.items()}
        self._number += 1
        folder, link = self.path / f"..{self._number}", self.path / "..data"
        folder.mkdir(parents=True)
        for name, value in names.items():
            (folder / name).write_bytes(value if isinstance(value, bytes) else str(value).encode())
        before = link.resolve() if link.exists() else None
        fresh = self.path / "..data_tmp"
        fresh.symlink_to(folder.name)
        fresh.replace(link)
        there = {path.name for path in self.path.iterdir() if not path.name.startswith("..")}
        for name in names.keys() - there:
            (self.path / name).symlink_to(f"..data/{name}")
        for name in there - names.keys():
            (self.path / name).unlink()
        if before is not None:
            shutil.rmtree(before)

    def remove(self) -> None:
        shutil.rmtree(self.path)
