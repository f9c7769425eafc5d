"""What a release is made of, besides its images.

python tools/release.py check v0.1.0    # ends with status 1 where that is not the version of every package
python tools/release.py notes v0.1.0    # what CHANGELOG.md has under it
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("libs/common", "apps/resize", "apps/detect", "apps/filter", "apps/orchestrator", "apps/cli")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "notes"])
    parser.add_argument("tag")
    asked = parser.parse_args()
    wanted = asked.tag.removeprefix("v")
    if asked.action == "notes":
        print(notes(wanted, (TOP / "CHANGELOG.md").read_text(encoding="utf-8")))
    elif others := {path: found for path, found in versions().items() if found != wanted}:
        sys.exit(f"the tag says {wanted}: {others}")


def versions() -> dict[str, str]:
    """Of each package."""
    files = {path: (TOP / path / "pyproject.toml").read_text(encoding="utf-8") for path in PACKAGES}
    return {path: str(tomllib.loads(text)["project"]["version"]) for path, text in files.items()}


def notes(version: str, changelog: str) -> str:
    """The section of a version, without its heading. Ends the process where there is none."""
    found = re.search(rf"^## \[{re.escape(version)}\].*?\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        sys.exit(f"CHANGELOG.md has nothing under [{version}]")
    return found[1].strip()


if __name__ == "__main__":
    main()
