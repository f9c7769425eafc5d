"""Generates `libs/common/imageflow/v1` and the descriptor set from the .proto files. Run by `make protos`;
`python protos/generate.py DIR` writes elsewhere, for the check that what is committed is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from imageflow_common.protos import compile_protos

PROTOS = Path(__file__).parent
DEFAULT_OUTPUT = PROTOS.parent / "libs" / "common"
INIT = '"""Generated from protos/imageflow/v1 by `make protos`."""\n'


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_OUTPUT
    package = output / "imageflow" / "v1"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(INIT)
    compile_protos(
        sorted(PROTOS.glob("imageflow/v1/*.proto")),
        root=PROTOS,
        descriptor_set=package / "descriptors.binpb",
        python_output=output,
        imports_from=None,
    )


if __name__ == "__main__":
    main()
