"""Writes `images/SERVICE.txt`: every distribution that an image installs, with its version and its hashes.

    python tools/locks.py

What a service needs is what its package declares for the extra `image`; versions are those of constraints.txt. Needs
pip-tools, which is not among the development requirements: `pip install pip-tools`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
_OWN = {f"imageflow-{path.parent.name}": path.parent for path in sorted(TOP.glob("*/*/pyproject.toml"))}
SERVICES = ("orchestrator", "resize", "detect", "filter")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^]]*)\])?")


def requirements(service: str) -> list[str]:
    """What others publish and the service's image needs, as its packages declare it."""
    return sorted(set(_foreign(f"imageflow-{service}", ("image",))))


def _foreign(own: str, extras: tuple[str, ...]) -> Iterator[str]:
    project = tomllib.loads((_OWN[own] / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for requirement in wanted:
        match = _REQUIREMENT.match(requirement)
        assert match is not None, requirement
        if match["name"] in _OWN:
            yield from _foreign(match["name"], tuple(re.findall(r"[\w-]+", match["extras"] or "")))
        else:
            yield requirement


def lock(wanted: list[str], output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "wanted.in"
        source.write_text("\n".join(wanted) + "\n")
        options = [
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-emit-trusted-host",
            "--no-emit-find-links",
            "--no-annotate",
            "--no-header",
        ]
        options += ["--strip-extras", "--allow-unsafe", "--quiet", "-c", str(TOP / "constraints.txt")]
        command = [sys.executable, "-m", "piptools", "compile", *options, "-o", str(output), str(source)]
        subprocess.run(command, check=True)  # noqa: S603 - our own arguments


def main() -> None:
    for service in SERVICES:
        lock(requirements(service), TOP / "images" / f"{service}.txt")
    lock(["cffi", "pip", "pkgconfig", "setuptools"], TOP / "images" / "build.txt")


if __name__ == "__main__":
    main()
