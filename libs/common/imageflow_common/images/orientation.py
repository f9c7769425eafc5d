"""EXIF orientation as geometry (EXIF 2.32, tag 0x0112)."""

from __future__ import annotations

from imageflow_common.pixels import Affine


def oriented(orientation: int, *, width: int, height: int) -> Affine:
    """Maps points of the stored image, of `width`×`height` pixels, to points of the image as it is to be
    seen."""
    w, h = float(width), float(height)
    return {
        1: Affine(),
        2: Affine(-1, 0, w, 0, 1, 0),
        3: Affine(-1, 0, w, 0, -1, h),
        4: Affine(1, 0, 0, 0, -1, h),
        5: Affine(0, 1, 0, 1, 0, 0),
        6: Affine(0, -1, h, 1, 0, 0),
        7: Affine(0, -1, h, -1, 0, w),
        8: Affine(0, 1, 0, -1, 0, w),
    }[orientation]
