"""What the local store promises beyond the contract: no link is followed, no crash leaves anything behind."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import tracemalloc
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from backends.small_disk import small_disk
from imageflow_common.errors import (
    DataLoss,
    FailedPrecondition,
    ObjectNotFound,
    PermissionDenied,
    StorageFull,
    WriteConflict,
)
from imageflow_common.store import parse_key
from imageflow_common.store_local import LocalStore

A = parse_key("a.png")
PNG = "image/png"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    opened = LocalStore(root)
    yield opened
    await opened.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_an_object_is_a_plain_file(store: LocalStore, root: Path) -> None:
    await store.put(parse_key("photos/cat.png"), b"bytes", media_type=PNG)
    assert (root / "objects/photos/cat.png").read_bytes() == b"bytes"


async def test_a_file_put_there_by_hand_is_an_object_without_checksum(store: LocalStore, root: Path) -> None:
    (root / "objects/in.jpg").write_bytes(b"jpeg")
    got = await store.get(parse_key("in.jpg"))
    assert (got.data, got.info.media_type, got.info.sha256) == (b"jpeg", "image/jpeg", None)


async def test_a_file_changed_by_hand_has_another_generation(store: LocalStore, root: Path) -> None:
    info = await store.put(A, b"ours", media_type=PNG)
    (root / "objects/a.png").write_bytes(b"theirs")
    assert (await store.head(A)).sha256 is None
    with pytest.raises(WriteConflict):
        await store.put(A, b"x", media_type=PNG, if_generation=info.generation)


async def test_a_link_in_the_place_of_a_folder_is_not_followed(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (root / "objects/trap").symlink_to(outside)
    key = parse_key("trap/secret.png")
    with pytest.raises(ObjectNotFound):
        await store.get(key)
    with pytest.raises(PermissionDenied) as caught:
        await store.put(parse_key("trap/new.png"), b"x", media_type=PNG)
    assert str(tmp_path) not in str(caught.value)
    await store.delete(key)
    assert (await store.list("")).items == (await store.list("trap/")).items == ()
    assert files(outside) == ["secret.png"]


async def test_a_link_in_the_place_of_an_object_is_replaced_not_followed(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (root / "objects/a.png").symlink_to(secret)
    with pytest.raises(ObjectNotFound):
        await store.get(A)
    with pytest.raises(WriteConflict):
        await store.put(A, b"x", media_type=PNG, if_absent=True)
    await store.put(A, b"mine", media_type=PNG)
    assert (await store.get(A)).data == b"mine"
    assert secret.read_bytes() == b"secret"


async def test_a_pipe_or_folder_in_the_place_of_an_object_is_none(store: LocalStore, root: Path) -> None:
    os.mkfifo(root / "objects/a.png")
    (root / "objects/b.png").mkdir()
    for name in ("a.png", "b.png"):
        with pytest.raises(ObjectNotFound):
            await store.get(parse_key(name))
    with pytest.raises(PermissionDenied):
        await store.put(parse_key("b.png"), b"", media_type=PNG)


async def test_nothing_is_left_of_what_was_replaced_refused_or_deleted(store: LocalStore, root: Path) -> None:
    key = parse_key("deep/er/a.png")
    for turn in range(3):
        await store.put(key, b"%d" % turn, media_type=PNG)
    with pytest.raises(WriteConflict):
        await store.put(key, b"x", media_type=PNG, if_absent=True)
    assert len(files(root / "meta")) == 1
    await store.delete(key)
    assert files(root / "meta") == files(root / "tmp") == []
    assert list((root / "objects").iterdir()) == []


CRASH = """
import asyncio, os, sys
from pathlib import Path
from imageflow_common.store import parse_key
from imageflow_common.store_local import LocalStore
from imageflow_common.store_local_tree import Tree

async def main():
    store = LocalStore(Path(sys.argv[1]))
    await store.put(parse_key("a.png"), b"old", media_type="image/png")
    place = sys.argv[2]
    real = getattr(os, place)
    def crash(*args, **kwargs):
        if sys.argv[3] == "after":
            real(*args, **kwargs)
        os._exit(9)
    setattr(os, place, crash)
    await store.put(parse_key("a.png"), b"new", media_type="image/png")

asyncio.run(main())
"""


@pytest.mark.parametrize("place", ["utime", "link", "rename", "unlink"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_any_step_leaves_the_old_or_the_new_and_the_rest_is_swept(
    root: Path, place: str, moment: str
) -> None:
    crashed = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASH, str(root), place, moment)
    assert await crashed.wait() == 9
    store = LocalStore(root)
    got = await store.get(A)
    new = place == "unlink" or (place, moment) == ("rename", "after")
    assert got.data == (b"new" if new else b"old")
    assert got.info.sha256 is not None
    assert len(files(root / "meta")) == 1
    assert files(root / "tmp") == []
    await store.close()


async def test_starting_leaves_the_drafts_of_a_living_process_alone(store: LocalStore, root: Path) -> None:
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        written.set()
        await go_on.wait()

    task = asyncio.create_task(store.put(A, slow(), media_type=PNG))
    await written.wait()
    await LocalStore(root).close()
    go_on.set()
    await task
    assert (await store.head(A)).size_bytes == 2_000_000


RACE = """
import asyncio, sys
from pathlib import Path
from imageflow_common.errors import WriteConflict
from imageflow_common.store import parse_key
from imageflow_common.store_local import LocalStore

root, name, generation = sys.argv[1:]

async def write(store, number):
    condition = {"if_generation": generation} if generation else {"if_absent": True}
    data = f"{name}{number}"
    try:
        await store.put(parse_key("a.png"), data.encode(), media_type="image/png", **condition)
    except WriteConflict:
        return
    print("won", data, flush=True)

async def main():
    store = LocalStore(Path(root), durable=False)
    print("ready", flush=True)
    sys.stdin.readline()
    await asyncio.gather(*(write(store, number) for number in range(10)))
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("fresh", [True, False])
async def test_of_fifty_conditional_writers_in_five_processes_one_wins(
    store: LocalStore, root: Path, fresh: bool
) -> None:
    before = "" if fresh else (await store.put(A, b"before", media_type=PNG)).generation
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", RACE, str(root), name, before, stdin=PIPE, stdout=PIPE
        )
        for name in "abcde"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))
    assert [racer.returncode for racer in racers] == [0] * 5
    (won,) = b"".join(output for output, _ in outputs).splitlines()
    assert b"won " + (await store.get(A)).data == won


async def test_writes_and_deletes_around_one_folder_do_not_disturb_each_other(store: LocalStore) -> None:
    async def churn(number: int) -> None:
        key = parse_key(f"folder/within/{number}.png")
        for _ in range(30):
            await store.put(key, b"x", media_type=PNG)
            await store.delete(key)

    await asyncio.gather(*(churn(number) for number in range(6)))
    assert (await store.list("")).items == ()


async def test_64_mb_pass_in_bounded_memory(root: Path) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for number in range(256):
            yield bytes([number]) * 250_000

    store = LocalStore(root, durable=False)
    tracemalloc.start()
    info = await store.put(A, blocks(), media_type=PNG)
    size = 0
    async with store.open(A) as reader:
        async for chunk in reader:
            size += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == info.size_bytes == 64_000_000
    assert peak < 8_000_000
    await store.close()


async def test_an_object_that_shrinks_while_it_is_read_is_data_loss(store: LocalStore, root: Path) -> None:
    await store.put(A, b"x" * 3_000_000, media_type=PNG)
    async with store.open(A) as reader:
        chunks = aiter(reader)
        await anext(chunks)
        os.truncate(root / "objects/a.png", 1_500_000)
        with pytest.raises(DataLoss):
            _ = [chunk async for chunk in chunks]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "1m") as disk:
        yield disk


async def test_a_full_disk_is_said_and_leaves_what_was_there(disk: Path) -> None:
    store = LocalStore(disk)
    try:
        await store.put(A, b"old", media_type=PNG)
        with pytest.raises(StorageFull):
            await store.put(A, b"x" * 4_000_000, media_type=PNG)
        assert (await store.get(A)).data == b"old"
        assert files(disk / "tmp") == []
        await store.put(A, b"new", media_type=PNG)
    finally:
        await store.close()


@pytest.mark.parametrize(("number", "error"), [(errno.EDQUOT, StorageFull), (errno.EROFS, PermissionDenied)])
async def test_an_operating_systems_refusal_has_our_name(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "refused", "/where/it/is")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(error) as caught:
        await store.put(A, b"x", media_type=PNG)
    monkeypatch.undo()
    assert "/where" not in str(caught.value)


async def test_a_layout_of_another_version_is_refused(root: Path) -> None:
    await LocalStore(root).close()
    (root / "layout.json").write_text('{"layout": 99, "foldCase": false}')
    with pytest.raises(FailedPrecondition):
        LocalStore(root)


async def test_names_can_be_spelt_for_a_file_system_that_ignores_case(root: Path) -> None:
    await LocalStore(root).close()
    (root / "layout.json").write_text('{"layout": 1, "foldCase": true}')
    store = LocalStore(root)
    for key in ("Cat.PNG", "cat.png", "Ä/ß.png"):
        await store.put(parse_key(key), key.encode(), media_type=PNG)
    names = files(root / "objects")
    assert names == [name.casefold() for name in names]
    assert [item.key for item in (await store.list("")).items] == ["Cat.PNG", "cat.png", "Ä/ß.png"]
    await store.close()
