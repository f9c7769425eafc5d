"""Images as the components see them: decoded pixels, and where they came from in the pipeline's input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt

PixelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | npt.NDArray[np.float32]
DTypeName = Literal["uint8", "uint16", "float32"]
DTYPES: tuple[DTypeName, ...] = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True)
class Affine:
    """Maps a point (x, y) in pixels, origin at the top left corner of the top left pixel, to
    (a·x + b·y + c, d·x + e·y + f)."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0
    e: float = 1.0
    f: float = 0.0

    @classmethod
    def scale(cls, x: float, y: float) -> Self:
        return cls(a=x, e=y)

    @classmethod
    def translation(cls, x: float, y: float) -> Self:
        return cls(c=x, f=y)

    def __matmul__(self, first: Affine) -> Affine:
        """The map that applies `first`, then this one."""
        return Affine(
            self.a * first.a + self.b * first.d,
            self.a * first.b + self.b * first.e,
            self.a * first.c + self.b * first.f + self.c,
            self.d * first.a + self.e * first.d,
            self.d * first.b + self.e * first.e,
            self.d * first.c + self.e * first.f + self.f,
        )

    def inverse(self) -> Affine:
        """Raises ZeroDivisionError for a map that flattens the plane."""
        det = self.a * self.e - self.b * self.d
        a, b, d, e = self.e / det, -self.b / det, -self.d / det, self.a / det
        return Affine(a, b, -(a * self.c + b * self.f), d, e, -(d * self.c + e * self.f))

    def apply(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Maps points of shape (N, 2), float64."""
        matrix = np.array([[self.a, self.d], [self.b, self.e]])
        return cast(npt.NDArray[np.float64], points @ matrix + np.array([self.c, self.f]))


IDENTITY = Affine()


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A decoded image. `array` is H×W×C, C-contiguous, uint8 or uint16 (full range) or float32 (0…1 where it
    came from integers), sRGB or grey: C is 1 grey, 2 grey+alpha, 3 RGB, 4 RGB+alpha. It may be read-only: shared
    memory is. `to_input` maps its pixel coordinates to those of the pipeline's input after orientation."""

    array: PixelArray
    to_input: Affine = IDENTITY
    full_size: tuple[int, int] | None = None
    """(width, height) of the encoded image, upright, where it was shrunk while it was decoded; else None."""

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or not 1 <= self.array.shape[2] <= 4 or 0 in self.array.shape:
            raise ValueError(f"expected H×W×C with 1 to 4 channels, got shape {self.array.shape}")
        if self.array.dtype.name not in DTYPES:
            raise ValueError(f"expected one of {', '.join(DTYPES)}, got {self.array.dtype}")

    @property
    def height(self) -> int:
        return int(self.array.shape[0])

    @property
    def width(self) -> int:
        return int(self.array.shape[1])

    @property
    def channels(self) -> int:
        return int(self.array.shape[2])

    @property
    def dtype(self) -> DTypeName:
        return cast(DTypeName, self.array.dtype.name)

    @property
    def has_alpha(self) -> bool:
        return self.channels in (2, 4)

    @property
    def megapixels(self) -> float:
        return self.height * self.width / 1e6

    def with_array(self, array: npt.NDArray[Any]) -> Pixels:
        """The same view of the input with other values; the size must stay as it is."""
        if array.shape[:2] != self.array.shape[:2]:
            raise ValueError("a change of size needs a change of `to_input` too")
        return replace(self, array=cast(PixelArray, np.ascontiguousarray(array)))
