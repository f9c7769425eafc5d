"""One module decides how an image travels, and lets go of what it named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orchestrator_scripted import eventually

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow.v1.image_pb2 import Image
from imageflow_common.errors import FailedPrecondition, ImageFlowError
from imageflow_common.shared import SharedDirectory
from imageflow_orchestrator.images import INLINE_BELOW_BYTES, Artifact, ImageTransport
from imageflow_orchestrator.recycled import RecycledFiles

LARGE = b"x" * INLINE_BELOW_BYTES
RAW_IMAGE: dict[str, Any] = {
    "media_type": "image/x-raw",
    "size_bytes": 6,
    "raw_layout": {"height": 1, "width": 2, "channels": 3, "sample_type": 1},
}
PNG_IMAGE: dict[str, Any] = {"media_type": "image/png", "size_bytes": 6}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def transport(directory: Path) -> Iterator[ImageTransport]:
    made = ImageTransport(SharedDirectory(directory))
    yield made
    made.close()
    assert list(directory.iterdir()) == []


def files(transport: ImageTransport, directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != transport.capability.name)


def artifact(data: bytes) -> Artifact:
    return Artifact(Image(media_type="image/png", size_bytes=len(data)), data)


def test_a_small_image_travels_inline_even_to_one_who_shares_memory(transport: ImageTransport, directory: Path) -> None:
    request = ComponentRequest()

    assert transport.attach(request, [artifact(b"small")], shared=True) == "inline"
    assert request.payload == b"small"
    assert files(transport, directory) == []


def test_a_large_image_travels_by_shared_memory_once_for_all_who_take_it(
    transport: ImageTransport, directory: Path
) -> None:
    image, first, second = artifact(LARGE), ComponentRequest(), ComponentRequest()

    assert transport.attach(first, [image], shared=True) == "shared-memory"
    transport.attach(second, [image], shared=True)

    name = first.inputs[0].shared_memory_name
    assert name == second.inputs[0].shared_memory_name
    assert (directory / name).read_bytes() == LARGE
    assert first.payload == b""
    transport.release(image)
    assert files(transport, directory) == []


def test_a_large_image_travels_inline_to_one_who_shares_no_memory(transport: ImageTransport, directory: Path) -> None:
    image, request = artifact(LARGE), ComponentRequest()
    transport.attach(ComponentRequest(), [image], shared=True)
    in_file_only = Artifact(image.description, None, image.shared_name)

    assert transport.attach(request, [in_file_only], shared=False) == "inline"

    assert request.payload == LARGE
    transport.release(image)


def test_several_inline_images_lie_one_after_another_in_the_payload(transport: ImageTransport) -> None:
    request = ComponentRequest()

    transport.attach(request, [artifact(b"one"), artifact(b"three")], shared=False)

    ranges = [(image.payload_range.offset_bytes, image.payload_range.size_bytes) for image in request.inputs]
    assert (request.payload, ranges) == (b"onethree", [(0, 3), (3, 5)])


def test_without_a_directory_everything_travels_inline() -> None:
    transport, request = ImageTransport(None), ComponentRequest()

    assert transport.attach(request, [artifact(LARGE)], shared=True) == "inline"
    assert transport.capability.name == ""
    transport.close()


def test_an_image_is_freed_when_its_last_holder_releases_it(transport: ImageTransport, directory: Path) -> None:
    image = artifact(LARGE)
    transport.attach(ComponentRequest(), [image], shared=True)
    transport.hold(image)

    transport.release(image)
    assert len(files(transport, directory)) == 1
    transport.release(image)
    assert files(transport, directory) == []
    transport.release(image)


def test_a_file_written_after_its_attempt_was_given_up_is_removed_too(
    transport: ImageTransport, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = transport.new_name()
    transport.abandon(name)
    (directory / name).write_bytes(b"late")
    transport.new_name()
    assert files(transport, directory) == [name]

    monkeypatch.setattr("imageflow_orchestrator.images.monotonic", lambda: 1e12)
    transport.new_name()

    assert files(transport, directory) == []


@pytest.fixture
def recycling(directory: Path) -> Iterator[ImageTransport]:
    made = ImageTransport(SharedDirectory(directory), RecycledFiles(10 * len(LARGE), 0.0))
    yield made
    made.close()
    assert list(directory.iterdir()) == []


def test_a_file_that_its_last_holder_released_is_written_again(recycling: ImageTransport, directory: Path) -> None:
    first, second = artifact(LARGE), artifact(LARGE.upper())
    recycling.attach(ComponentRequest(), [first], shared=True)
    inode = (directory / (first.shared_name or "")).stat().st_ino
    recycling.hold(first)
    recycling.release(first)
    third = artifact(LARGE)
    recycling.attach(ComponentRequest(), [third], shared=True)
    assert third.shared_name != first.shared_name, "somebody holds the first one"
    recycling.release(first)

    recycling.attach(ComponentRequest(), [second], shared=True)

    written = directory / (second.shared_name or "")
    assert (written.stat().st_ino, written.read_bytes()) == (inode, LARGE.upper())


def test_a_file_that_somebody_may_read_still_is_not_written_again(recycling: ImageTransport, directory: Path) -> None:
    image = artifact(LARGE)
    recycling.attach(ComponentRequest(), [image], shared=True)
    image.read_by_others = True
    recycling.release(image)
    assert files(recycling, directory) == []


def test_a_name_that_was_given_up_is_never_offered_again(recycling: ImageTransport) -> None:
    name = recycling.new_name()
    recycling.abandon(name)
    assert recycling.new_name() != name
    recycling.return_unwritten(other := recycling.new_name())
    assert recycling.new_name() == other


async def test_files_that_nobody_wants_again_are_removed(recycling: ImageTransport, directory: Path) -> None:
    image = artifact(LARGE)
    recycling.attach(ComponentRequest(), [image], shared=True)
    recycling.release(image)
    assert len(files(recycling, directory)) == 1
    removing = asyncio.create_task(recycling.remove_unused())
    await eventually(lambda: files(recycling, directory) == [])
    removing.cancel()


def test_closing_removes_every_file_of_this_owner_and_no_other(directory: Path) -> None:
    one, other = ImageTransport(SharedDirectory(directory)), ImageTransport(SharedDirectory(directory))
    one.attach(ComponentRequest(), [artifact(LARGE)], shared=True)

    one.close()

    assert [path.name for path in directory.iterdir()] == [other.capability.name]
    other.close()


@pytest.mark.parametrize("kind", [RAW_IMAGE, PNG_IMAGE])
def test_an_inline_answer_is_the_range_of_the_payload_that_it_names(
    transport: ImageTransport, kind: dict[str, Any]
) -> None:
    image = Image(**kind, payload_range={"offset_bytes": 2, "size_bytes": 6})
    response = ComponentResponse(image=image, payload=b"..abcdef.")

    received = transport.receive(response, expected_name="", media_type=kind["media_type"])

    assert received is not None
    assert transport.bytes_of(received) == b"abcdef"


def test_no_image_in_an_answer_means_unchanged(transport: ImageTransport) -> None:
    assert transport.receive(ComponentResponse(), expected_name="", media_type="image/png") is None


@pytest.mark.parametrize(
    ("change", "payload"),
    [
        ({}, b"abcdef"),
        ({"payload_range": {"size_bytes": 5}}, b"abcdef"),
        ({"payload_range": {"size_bytes": 6}}, b"abc"),
        ({"payload_range": {"offset_bytes": 1, "size_bytes": 6}}, b"abcdef"),
        ({"payload_range": {"size_bytes": 0}, "size_bytes": 0}, b""),
        ({"payload_range": {"offset_bytes": 2**63, "size_bytes": 6}}, b"abcdef"),
        ({"payload_range": {"size_bytes": 6}, "media_type": "image/gif"}, b"abcdef"),
        ({"shared_memory_name": "somebody.1"}, b""),
        ({"object_key": "somewhere"}, b""),
        ({"payload_range": {"size_bytes": 6}, "raw_layout": {"height": 9, "width": 9, "channels": 1}}, b"abcdef"),
        ({"payload_range": {"size_bytes": 6}, "raw_layout": {}}, b"abcdef"),
    ],
)
def test_an_answer_whose_image_is_not_what_was_asked_is_a_bad_one(
    transport: ImageTransport, change: dict[str, Any], payload: bytes
) -> None:
    response = ComponentResponse(image=Image(**{**RAW_IMAGE, **change}), payload=payload)

    with pytest.raises(ImageFlowError) as caught:
        transport.receive(response, expected_name="mine.1", media_type="image/x-raw")

    assert (caught.value.code, caught.value.reason) == ("INTERNAL", "BAD_ANSWER")


def test_a_file_that_is_gone_is_missed_as_shared_memory(transport: ImageTransport) -> None:
    lost = Artifact(Image(media_type="image/png", size_bytes=5), None, transport.new_name())

    with pytest.raises(FailedPrecondition) as caught:
        transport.bytes_of(lost)

    assert caught.value.reason == "SHARED_MEMORY_MISSING"
