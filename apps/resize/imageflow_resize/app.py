"""The resize component: its function, and its main program."""

from __future__ import annotations

from typing import cast

from imageflow.v1.resize_pb2 import ResizeMetadata, ResizeParameters
from imageflow_common.component import Result, component
from imageflow_common.errors import InvalidParameters, Violation
from imageflow_common.pixels import Pixels
from imageflow_common.serve import serve

from .resize import Fit, Gravity, Kernel, target_size
from .resize import resize as resize_pixels

MAX_PIXELS = 100_000_000
"""The largest image this makes: as large as the largest that is taken by default."""


def _needed(parameters: ResizeParameters, width: int, height: int) -> tuple[int, int]:
    """The size that a JPEG shrunk while it is decoded must still have."""
    return target_size(
        width,
        height,
        width=parameters.width,
        height=parameters.height,
        maintain_aspect_ratio=parameters.maintain_aspect_ratio,
        fit=cast(Fit, parameters.fit),
        enlarge=parameters.enlarge,
    )


@component(name="resize", service="imageflow.v1.ResizeService", minimal_size=_needed)
def resize(image: Pixels, parameters: ResizeParameters) -> Result:
    """Changes the size of an image."""
    width, height = image.full_size or (image.width, image.height)
    target = _needed(parameters, width, height)
    if target[0] * target[1] > MAX_PIXELS:
        too_large = f"{target[0]}×{target[1]} is more than {MAX_PIXELS // 1_000_000} megapixels"
        raise InvalidParameters(too_large, violations=[Violation("width", too_large)])
    resized = resize_pixels(
        image,
        width=parameters.width,
        height=parameters.height,
        maintain_aspect_ratio=parameters.maintain_aspect_ratio,
        fit=cast(Fit, parameters.fit),
        gravity=cast(Gravity, parameters.gravity),
        kernel=cast(Kernel, parameters.kernel),
        enlarge=parameters.enlarge,
        full_size=image.full_size,
    )
    metadata = ResizeMetadata(
        input_width=width, input_height=height, output_width=resized.width, output_height=resized.height
    )
    return Result(resized, metadata, f"{resized.width}×{resized.height}")


def main() -> None:
    """Serves the component until it is told to stop."""
    serve(resize)
