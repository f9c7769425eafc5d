"""The picture that is worked on."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image
from skimage import data


@cache
def coins() -> bytes:
    """Skimage's coins as PNG, 384 × 303."""
    file = io.BytesIO()
    Image.fromarray(data.coins()).save(file, "PNG")  # type: ignore[no-untyped-call]
    return file.getvalue()
