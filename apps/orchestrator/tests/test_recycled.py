"""Files in shared memory are written again rather than made anew, and none is kept that nobody uses."""

from __future__ import annotations

import pytest

from imageflow_orchestrator.recycled import RecycledFiles


def test_the_file_freed_last_is_taken_first() -> None:
    files = RecycledFiles(100, 1.0)
    assert files.take() is None
    assert files.give("a", 10)
    assert files.give("b", 10)
    assert [files.take(), files.take(), files.take()] == ["b", "a", None]


def test_no_more_bytes_are_kept_than_allowed() -> None:
    files = RecycledFiles(25, 1.0)
    assert [files.give(name, 10) for name in "abc"] == [True, True, False]


def test_a_file_keeps_the_size_of_the_largest_image_that_it_held() -> None:
    files = RecycledFiles(25, 1.0)
    files.give("a", 20)
    assert files.take() == "a"
    assert files.give("a", 1)
    assert not files.give("b", 10)


def test_a_file_that_was_removed_counts_no_more() -> None:
    files = RecycledFiles(25, 1.0)
    files.give("a", 20)
    files.take()
    files.forget("a")
    assert files.give("b", 25)


def test_only_files_free_for_too_long_are_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("imageflow_orchestrator.recycled.monotonic", lambda: now)
    files = RecycledFiles(100, 2.0)
    files.give("a", 10)
    now = 101.0
    files.give("b", 10)
    now = 102.0
    assert files.take_unused() == ["a"]
    assert files.take_unused() == []
    assert files.take() == "b"
