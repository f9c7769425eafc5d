"""The resize component: its function, and its main program."""

from __future__ import annotations

from imageflow.v1.resize_pb2 import ResizeMetadata, ResizeParameters
from imageflow_common.component import Result, component
from imageflow_common.pixels import Pixels
from imageflow_common.serve import serve

from .resize import resize as resize_pixels
from .resize import target_size


def _needed(parameters: ResizeParameters, width: int, height: int) -> tuple[int, int]:
    """The size that a shrunk decoding must still have."""
    return target_size(
        width,
        height,
        parameters.width,
        parameters.height,
        maintain_aspect_ratio=parameters.maintain_aspect_ratio,
        fit=parameters.fit,
        enlarge=parameters.enlarge,
    )


@component(name="resize", service="imageflow.v1.ResizeService", minimal_size=_needed)
def resize(image: Pixels, parameters: ResizeParameters) -> Result:
    """Changes the size of an image."""
    resized = resize_pixels(
        image,
        width=parameters.width,
        height=parameters.height,
        maintain_aspect_ratio=parameters.maintain_aspect_ratio,
        fit=parameters.fit,
        gravity=parameters.gravity,
        kernel=parameters.kernel,
        enlarge=parameters.enlarge,
    )
    metadata = ResizeMetadata(
        input_width=image.width,
        input_height=image.height,
        output_width=resized.width,
        output_height=resized.height,
    )
    return Result(resized, metadata, f"{resized.width}×{resized.height}")


def main() -> None:
    """Serves the component until it is told to stop."""
    serve(resize)
