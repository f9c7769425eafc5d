"""A release is of one version, and says what is in it."""

from __future__ import annotations

import pytest

from tools import images, release

CHANGELOG = """# Changelog

## [Unreleased]

Later.

## [0.2.0] - 2026-12-01

### Added

- This.

## [0.1.0] - 2026-11-01

First.
"""


def test_every_package_and_every_image_has_the_same_version() -> None:
    assert set(release.versions().values()) == {images.version()}


def test_the_notes_are_what_the_changelog_has_under_the_version() -> None:
    assert release.notes("0.2.0", CHANGELOG) == "### Added\n\n- This."
    assert release.notes("0.1.0", CHANGELOG) == "First."


@pytest.mark.parametrize("version", ["0.3.0", "0.1", "0.2x0"])
def test_a_version_without_notes_is_no_release(version: str) -> None:
    with pytest.raises(SystemExit, match="nothing under"):
        release.notes(version, CHANGELOG)
