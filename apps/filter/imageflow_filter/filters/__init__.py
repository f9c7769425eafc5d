"""The catalogue of filters, by name. A new filter is a module with a `FILTER`, and a line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from imageflow_filter.filters import (
    contrast,
    denoise,
    edges,
    gaussian,
    grayscale,
    invert,
    median,
    unsharp,
)
from imageflow_filter.filters.filter import Apply, Filter

__all__ = ["FILTERS", "Apply", "Filter"]

FILTERS: Final[Mapping[str, Filter]] = MappingProxyType(
    {
        module.FILTER.name: module.FILTER
        for module in (gaussian, median, unsharp, edges, grayscale, invert, contrast, denoise)
    }
)
