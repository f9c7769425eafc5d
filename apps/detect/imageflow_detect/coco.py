"""Detections in the form of COCO (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections.abc import Sequence

from imageflow.v1.detect_pb2 import CocoAnnotation, CocoCategory, CocoDataset, CocoImage
from imageflow_detect.detect import Found

_IMAGE_ID = 1


def as_coco(found: Sequence[Found], *, labels: Sequence[str], width: int, height: int) -> CocoDataset:
    """What was found in a width×height image, in its pixels."""
    return CocoDataset(
        images=[CocoImage(id=_IMAGE_ID, width=width, height=height)],
        annotations=[_annotation(number, each) for number, each in enumerate(found, start=1)],
        categories=[CocoCategory(id=number, name=label) for number, label in enumerate(labels)],
    )


def _annotation(number: int, found: Found) -> CocoAnnotation:
    box = found.box
    return CocoAnnotation(
        id=number,
        image_id=_IMAGE_ID,
        category_id=found.class_id,
        bbox=[box.x, box.y, box.width, box.height],
        area=box.width * box.height,
        score=found.confidence,
    )
