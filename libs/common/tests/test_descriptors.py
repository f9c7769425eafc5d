"""Messages known by their descriptors alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass

from imageflow_common.descriptors import load_descriptors, own_descriptors, parse_descriptors
from imageflow_common.protos import DESCRIPTOR_SET, ProtoCompileError


def test_comments_are_found_by_full_name_on_one_line() -> None:
    comments = own_descriptors().comments
    assert comments["imageflow.v1.ResizeService"] == "Changes the size of an image."
    assert comments["imageflow.v1.ResizeService.Process"] == "Processes one image."
    assert comments["imageflow.v1.ResizeParameters.kernel"] == "The resampling kernel."
    assert "contain` fits inside it, `cover` fills it" in comments["imageflow.v1.ResizeParameters.fit"]
    assert "\n" not in "".join(comments.values())


def test_every_field_method_and_service_of_ours_has_a_comment() -> None:
    own = own_descriptors()
    names = [
        name
        for file in own.files.file
        if file.package == "imageflow.v1"
        for message in file.message_type
        for name in [
            f"imageflow.v1.{message.name}",
            *(f"imageflow.v1.{message.name}.{field.name}" for field in message.field),
        ]
    ]
    names += [service for service in own.service_names() if service.startswith("imageflow.")]
    assert [name for name in names if name not in own.comments] == []


def test_a_subset_holds_a_file_with_all_its_imports_first() -> None:
    subset = own_descriptors().subset("imageflow/v1/resize.proto")
    names = [file.name for file in subset.file]
    assert names[-1] == "imageflow/v1/resize.proto"
    assert "imageflow/v1/image.proto" in names
    assert "imageflow/v1/detect.proto" not in names
    for position, file in enumerate(subset.file):
        assert set(file.dependency) <= set(names[:position])


def test_a_subset_reads_messages_on_its_own() -> None:
    data = own_descriptors().subset("imageflow/v1/resize.proto").SerializeToString()
    descriptor = parse_descriptors(data).message("imageflow.v1.ResizeMetadata")
    message = GetMessageClass(descriptor)(input_width=4)
    assert MessageToDict(GetMessageClass(descriptor).FromString(message.SerializeToString())) == {"inputWidth": 4}


def test_a_set_that_lacks_an_import_is_refused() -> None:
    whole = FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    torn = FileDescriptorSet(file=[file for file in whole.file if file.name == "imageflow/v1/resize.proto"])
    with pytest.raises(TypeError):
        parse_descriptors(torn.SerializeToString())


def test_a_proto_file_is_compiled_with_our_messages_to_import(tmp_path: Path) -> None:
    path = tmp_path / "tint.proto"
    path.write_text(
        'syntax = "proto3"; package acme.v1; import "imageflow/v1/image.proto";\n'
        "// Tints.\nmessage Tint { imageflow.v1.Image image = 1; }"
    )
    descriptors = load_descriptors(path)
    image = descriptors.message("acme.v1.Tint").fields_by_name["image"].message_type
    assert image is not None
    assert image.full_name == "imageflow.v1.Image"
    assert descriptors.comments["acme.v1.Tint"] == "Tints."


def test_names_without_a_package_have_no_dot(tmp_path: Path) -> None:
    path = tmp_path / "bare.proto"
    path.write_text('syntax = "proto3";\n// Is bare.\nmessage Bare {}\nservice S { rpc M(Bare) returns (Bare); }')
    descriptors = load_descriptors(path)
    assert descriptors.service_names() == ["S"]
    assert descriptors.comments == {"Bare": "Is bare."}


def test_a_proto_file_with_a_fault_is_refused(tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "bad.proto"
    path.write_text('syntax = "proto3"; message Bad { Missing field = 1; }')
    with pytest.raises(ProtoCompileError, match=r"bad\.proto"):
        load_descriptors(path)
    assert '"Missing" is not defined' in capfd.readouterr().err
