"""Messages and services known only by their descriptors: what lets the orchestrator, the command and the gateway
handle a component that none of them was built with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from .protos import DESCRIPTOR_SET, compile_protos

_MESSAGE_TYPE, _FIELD, _NESTED_TYPE, _SERVICE, _METHOD = 4, 2, 3, 6, 2


@dataclass(frozen=True, slots=True)
class Descriptors:
    """A set of .proto files, compiled: a private pool of their descriptors, and their comments."""

    files: FileDescriptorSet
    pool: DescriptorPool
    comments: Mapping[str, str]
    """The leading comment of each message, field, service and method, by full name."""

    def message(self, full_name: str) -> Descriptor:
        """Raises KeyError."""
        return self.pool.FindMessageTypeByName(full_name)

    def service(self, full_name: str) -> ServiceDescriptor:
        """Raises KeyError."""
        return self.pool.FindServiceByName(full_name)

    def service_names(self) -> list[str]:
        return [_qualified(file, service.name) for file in self.files.file for service in file.service]

    def subset(self, file_name: str) -> FileDescriptorSet:
        """The file and all that it imports, imports first."""
        by_name = {file.name: file for file in self.files.file}
        needed: dict[str, FileDescriptorProto] = {}

        def add(name: str) -> None:
            for dependency in by_name[name].dependency:
                add(dependency)
            needed.setdefault(name, by_name[name])

        add(file_name)
        return FileDescriptorSet(file=needed.values())


def parse_descriptors(data: bytes) -> Descriptors:
    """Reads a serialised FileDescriptorSet. Raises google.protobuf.message.DecodeError, and TypeError for a set that
    lacks an import."""
    files = FileDescriptorSet.FromString(data)
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    comments = {name: text for file in files.file for name, text in _comments(file)}
    return Descriptors(files, pool, comments)


def load_descriptors(path: Path) -> Descriptors:
    """Reads a descriptor set, or compiles a .proto file, whose folder must mirror its package
    (`…/acme/v1/tint.proto` for `acme.v1`) or be its root."""
    if path.suffix != ".proto":
        return parse_descriptors(path.read_bytes())
    with TemporaryDirectory(prefix="imageflow-proto-") as folder:
        compiled = Path(folder) / "descriptors.binpb"
        compile_protos([path], root=path.parent, descriptor_set=compiled)
        return parse_descriptors(compiled.read_bytes())


@cache
def own_descriptors() -> Descriptors:
    """Every message and service of imageflow.v1."""
    return load_descriptors(DESCRIPTOR_SET)


def _comments(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    for path, name in _names(file):
        if text := " ".join(texts.get(path, "").split()):
            yield name, text


def _names(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        yield from _message_names(message, (_MESSAGE_TYPE, index), _qualified(file, message.name))
    for index, service in enumerate(file.service):
        name = _qualified(file, service.name)
        yield (_SERVICE, index), name
        for number, method in enumerate(service.method):
            yield (_SERVICE, index, _METHOD, number), f"{name}.{method.name}"


def _qualified(file: FileDescriptorProto, name: str) -> str:
    return f"{file.package}.{name}" if file.package else name


def _message_names(message: DescriptorProto, path: tuple[int, ...], name: str) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, name
    for index, field in enumerate(message.field):
        yield (*path, _FIELD, index), f"{name}.{field.name}"
    for index, nested in enumerate(message.nested_type):
        yield from _message_names(nested, (*path, _NESTED_TYPE, index), f"{name}.{nested.name}")
