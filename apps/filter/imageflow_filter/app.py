"""The filter component: its function, and its main program."""

from __future__ import annotations

from imageflow.v1.filter_pb2 import FilterMetadata, FilterParameters
from imageflow_common.component import Result, component
from imageflow_common.errors import InvalidParameters, Violation
from imageflow_common.pixels import Pixels
from imageflow_common.serve import serve

from .filters import FILTERS


@component(name="filter", service="imageflow.v1.FilterService")
def filter_pixels(image: Pixels, parameters: FilterParameters) -> Result:
    """Filters an image's pixels; its size stays."""
    chosen = FILTERS[parameters.filter_type]
    intensity = parameters.filter_intensity
    if not chosen.minimum <= intensity <= chosen.maximum:
        allowed = f"{chosen.name} takes {chosen.minimum:g} to {chosen.maximum:g}, got {intensity:g}"
        raise InvalidParameters(allowed, violations=[Violation("filterIntensity", allowed)])
    metadata = FilterMetadata(filter_type=chosen.name, filter_intensity=intensity)
    return Result(image.with_array(chosen.apply(image.array, intensity)), metadata, chosen.name)


def main() -> None:
    """Serves the component until it is told to stop."""
    serve(filter_pixels)
