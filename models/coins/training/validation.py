"""Draws the validation set: scenes as those of the training, of seeds that it does not use, with boxes in COCO's form.

    python models/coins/training/validation.py [--output models/coins/validation]

The set is in the tree, so that everybody measures on the same files; this says where it came from.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image
from scenes import Scene, draw_scene

SCENES = 40
FIRST_SEED = 900_000_000
"""Training takes 2,400 numbers of SeedSequence(7) (train.py); none of them is among these."""
QUALITY = 85
OUTPUT = Path(__file__).resolve().parent.parent / "validation"


def annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, object]]:
    rows = []
    for number, (left, top, right, bottom) in enumerate(scene.boxes.tolist()):
        box = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        rows.append(
            {
                "id": first_id + number,
                "image_id": image_id,
                "category_id": 0,
                "bbox": box,
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
            }
        )
    return rows


def jpeg(scene: Scene) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene.image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws the validation set.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    boxes: list[dict[str, object]] = []
    for number in range(1, SCENES + 1):
        scene, name = draw_scene(FIRST_SEED + number), f"scene-{number:02}.jpg"
        (output / name).write_bytes(jpeg(scene))
        height, width = scene.image.shape[:2]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        boxes += annotations(scene, number, len(boxes) + 1)
    document = {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "coin"}]}
    rows = ",\n".join(f'"{name}": [\n{_lines(each)}\n]' for name, each in document.items())
    (output / "annotations.json").write_text("{\n" + rows + "\n}\n")


def _lines(rows: list[dict[str, object]]) -> str:
    return ",\n".join(json.dumps(row) for row in rows)


if __name__ == "__main__":
    main()
