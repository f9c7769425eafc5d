"""Compiles .proto files with protoc (grpcio-tools), for this tree's own and for a user's component."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

DESCRIPTOR_SET = Path(__file__).parent.parent / "imageflow" / "v1" / "descriptors.binpb"
"""Every message and service of ours, with imports and comments: a serialised FileDescriptorSet."""


class ProtoCompileError(Exception):
    """protoc refused the files; what it said is on standard error."""


def compile_protos(
    files: Sequence[Path],
    *,
    root: Path,
    descriptor_set: Path,
    python_output: Path | None = None,
    imports_from: Path | None = DESCRIPTOR_SET,
) -> None:
    """Writes a serialised FileDescriptorSet with imports and source info and, if asked, Python modules with stubs.

    `root` is the folder that imports are relative to; what is not found there comes from `imports_from`, a
    descriptor set, or from Google's common protos. Raises ProtoCompileError, and ModuleNotFoundError without
    grpcio-tools.
    """
    protoc = import_module("grpc_tools.protoc")
    arguments = ["protoc", f"-I{root}", *(f"-I{path}" for path in _google_protos())]
    arguments += ["--include_imports", "--include_source_info", f"--descriptor_set_out={descriptor_set}"]
    if imports_from is not None:
        arguments.append(f"--descriptor_set_in={imports_from}")
    if python_output is not None:
        arguments += [f"--python_out={python_output}", f"--pyi_out={python_output}"]
    if protoc.main([*arguments, *map(str, files)]) != 0:
        raise ProtoCompileError(f"protoc failed on {', '.join(path.name for path in files)}")


def _google_protos() -> list[Path]:
    """The folders that hold google/protobuf and google/rpc, from their installed packages."""
    well_known = Path(import_module("grpc_tools").__path__[0]) / "_proto"
    common = Path(import_module("google.rpc").__path__[0]).parents[1]
    return [well_known, common]
