"""kustomize, which renders the manifests: that of the PATH, else built, a minute."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from backends.cache import cache_directory, finish, finished, installing
from backends.go import go_install

VERSION = "v5.8.0"


def install() -> Path:
    """Answers the program. Raises CannotStart."""
    if (found := shutil.which("kustomize")) is not None:
        return Path(found)
    with installing("kustomize") as folder:
        if not finished(folder, VERSION):
            go_install(folder, "sigs.k8s.io/kustomize/kustomize/v5", VERSION)
            finish(folder, VERSION)
    return cache_directory() / "kustomize" / "kustomize"


def render(folder: Path) -> str:
    """What it makes of a folder: one document after the other. Raises CannotStart, CalledProcessError."""
    return subprocess.run([str(install()), "build", str(folder)], check=True, capture_output=True, text=True).stdout
