"""Keys: what is one, how it is spelt as file names, and where the system's own lie."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageflow_common import keys
from imageflow_common.errors import InvalidKey
from imageflow_common.store import ObjectKey, parse_key, parse_prefix
from imageflow_common.store_local import LocalStore
from imageflow_common.store_local_names import PART, read_name, spell

NOW = datetime(2026, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)
IDS = st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True).filter(lambda text: text not in (".", ".."))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2285, 1, 1), timezones=st.just(UTC))


def _is_key(text: str) -> bool:
    try:
        parse_key(text)
    except InvalidKey:
        return False
    return True


TRICKY = st.sampled_from([".", "..", "a", "A", "%", ".dir", ".object", ".part", "é", "ß", "x" * 120, "\u0130"])
SEGMENTS = st.one_of(st.text(min_size=1, max_size=12), st.lists(TRICKY, min_size=1, max_size=4).map("".join))
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(_is_key).map(parse_key)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("/a", "starts with"),
        ("a/", "empty segment"),
        ("a//b", "empty segment"),
        ("a/../b", "'..'"),
        (".", "'..'"),
        ("a\\b", "backslash"),
        ("a\0", "NUL"),
        ("a\n", "control"),
        ("a\x7f", "control"),
        ("a\x85", "control"),
        ("\ud800", "Unicode"),
        ("é" * 128, "segment"),
        ("/".join("abc" * 200), "1024"),
    ],
)
def test_a_text_that_is_no_key_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidKey, match=why):
        parse_key(text)


@given(st.text())
def test_a_key_is_normalised_and_parses_to_itself(text: str) -> None:
    if _is_key(text):
        key = parse_key(text)
        assert unicodedata.is_normalized("NFC", key)
        assert parse_key(key) == key


@pytest.mark.parametrize("text", ["a//", "../", "a\0", "a/./", "\\", "x" * 256, "/"])
def test_a_prefix_of_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_prefix(text)


@pytest.mark.parametrize("text", ["", "a", "a/", "a/.", "a/..", "a/b"])
def test_a_prefix_ends_anywhere(text: str) -> None:
    assert parse_prefix(text) == text


@given(KEYS, st.booleans())
def test_file_names_are_safe_and_lead_back_to_the_key(key: ObjectKey, fold_case: bool) -> None:
    names = spell(key, fold_case=fold_case)
    assert all(name not in ("", ".", "..") and "/" not in name and len(name.encode()) <= 255 for name in names)
    segments, pending = [], []
    for depth, name in enumerate(names):
        pending.append(name)
        if not name.endswith(PART):
            folder = depth < len(names) - 1
            segments.append(read_name(tuple(pending), folder=folder, fold_case=fold_case))
            pending = []
    assert segments == key.split("/")


@given(KEYS, KEYS, st.booleans())
def test_no_file_is_another_keys_file_or_folder(one: ObjectKey, other: ObjectKey, fold_case: bool) -> None:
    first, second = spell(one, fold_case=fold_case), spell(other, fold_case=fold_case)
    if fold_case:
        first = tuple(name.casefold() for name in first)
        second = tuple(name.casefold() for name in second)
    assert (first == second) == (one == other)
    assert second[: len(first)] != first or one == other


@pytest.mark.parametrize("key", ["photos/cat.png", "in.jpg", "a/b/c.tar.gz"])
def test_an_ordinary_key_is_an_ordinary_path(key: str) -> None:
    assert "/".join(spell(parse_key(key), fold_case=False)) == key


@given(IDS, IDS, TIMES)
def test_an_index_entry_and_a_marker_say_what_they_stand_for(namespace: str, name: str, created: datetime) -> None:
    expected = keys.IndexedExecution(namespace, name, created.replace(microsecond=created.microsecond // 1000 * 1000))
    for key, parse in (
        (keys.index_key(namespace, created, name), keys.parse_index_key),
        (keys.pending_key(namespace, created, name), keys.parse_pending_key),
    ):
        assert parse_key(key) == key
        assert parse(key) == expected


@given(TIMES, TIMES)
def test_the_index_has_the_newest_first_and_pending_the_oldest(one: datetime, other: datetime) -> None:
    early, late = sorted((one, other))
    if late - early < timedelta(milliseconds=1):
        return
    assert keys.index_key("n", late, "e") < keys.index_key("n", early, "e")
    assert keys.newest_key("p", late, "1") < keys.newest_key("p", early, "1")
    assert keys.pending_key("n", early, "e") < keys.pending_key("n", late, "e")


def test_an_entry_of_versions_says_its_version() -> None:
    assert keys.parse_newest_key(keys.newest_key("p", NOW, "1.0")) == keys.StoredVersion("p", "1.0", NOW)


def test_the_layout_is_what_the_decision_says() -> None:
    assert keys.artifact_key("default", "e1", "resize", 2) == "artifacts/default/e1/resize/2"
    assert keys.metadata_key(parse_key("out/cat.png")) == "out/cat.png.json"
    assert keys.record_key("default", "e1") == ".imageflow/records/default/e1"
    assert keys.definition_key("p", "1.0") == ".imageflow/definitions/p/versions/1.0"
    assert keys.pipeline_key("p") == ".imageflow/pipelines/p"
    assert keys.index_key("default", NOW, "e1") == ".imageflow/index/default/8227/39/9232108-e1"
    assert keys.pending_key("default", NOW, "e1") == ".imageflow/pending/1772600767891-default/e1"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "é", "x" * 129, "a\n"])
def test_an_id_that_is_none_makes_no_key(bad: str) -> None:
    makers: list[Callable[[], ObjectKey]] = [
        lambda: keys.artifact_key(bad, "e", "s", 1),
        lambda: keys.artifact_key("n", "e", bad, 1),
        lambda: keys.record_key("n", bad),
        lambda: keys.index_key(bad, NOW, "e"),
        lambda: keys.pending_key("n", NOW, bad),
        lambda: keys.definition_key("p", bad),
    ]
    for make in makers:
        with pytest.raises(InvalidKey):
            make()


@pytest.mark.parametrize("text", [".imageflow/records/x", ".imageflow", ".ImageFlow/x"])
def test_a_user_cannot_name_a_reserved_key(text: str) -> None:
    with pytest.raises(InvalidKey, match="reserved"):
        keys.parse_user_key(text)
    assert keys.parse_user_key(".imageflow.json") == ".imageflow.json"


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 1000])
async def test_a_users_listing_jumps_over_what_is_reserved(tmp_path: Path, page_size: int) -> None:
    store = LocalStore(tmp_path, durable=False)
    mine = ["-a", ".a", ".imageflow-x", ".imageflow.json", ".imageflow0", "a", "b/c"]
    for key in [*mine, ".imageflow/pipelines/p", *(f".imageflow/records/n/{n}" for n in range(9))]:
        await store.put(parse_key(key), b"", media_type="image/png")
    listed, token = [], None
    while True:
        page = await keys.list_user_objects(store, "", page_size=page_size, page_token=token)
        assert len(page.items) <= page_size
        listed += [item.key for item in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert listed == mine
    assert [item.key for item in (await keys.list_user_objects(store, ".imagef")).items] == mine[2:5]
    with pytest.raises(InvalidKey):
        await keys.list_user_objects(store, ".imageflow/")
    await store.close()
