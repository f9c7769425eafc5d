"""A component for tests: it waits, cuts, inverts or fails as its parameters say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from imageflow.v1.component_pb2 import DescribeResponse
from imageflow_common.component import Result, Slot, component
from imageflow_common.pixels import Affine, Pixels
from imageflow_common.serve import serve

_WAITS_AT_MOST_SECONDS = 30.0


@component(
    name="probe",
    service="acme.v1.ProbeService",
    descriptors=Path(__file__).with_name("probe.proto"),
    version="1.2.0",
    effect=DescribeResponse.WHEN_PARAMETER,
    effect_parameter="invert",
    slots=[Slot("mask", optional=True)],
)
def probe(image: Pixels, mask: Pixels | None, parameters: Any) -> Result:
    """Does as it is told.

    More about it."""
    if parameters.started_file:
        Path(parameters.started_file).touch()
    end = time.monotonic() + _WAITS_AT_MOST_SECONDS
    while parameters.awaited_file and not Path(parameters.awaited_file).exists():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)
    if parameters.fail:
        raise RuntimeError("/a/path/of/ours")
    to_input = image.to_input
    metadata = {
        "width": image.width,
        "height": image.height,
        "masked": mask is not None,
        "to_input": [to_input.a, to_input.b, to_input.c, to_input.d, to_input.e, to_input.f],
    }
    if parameters.cut_left:
        cut = image.array[:, parameters.cut_left :].copy()
        return Result(Pixels(cut, to_input @ Affine.translation(parameters.cut_left, 0)), metadata, "cut")
    return Result(image.with_array(255 - image.array) if parameters.invert else None, metadata, "done")


if __name__ == "__main__":
    serve(probe)
