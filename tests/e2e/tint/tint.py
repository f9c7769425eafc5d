"""A user's own component: all the Python there is of it."""

import time
from pathlib import Path

import numpy as np

from imageflow_common.component import Result, component
from imageflow_common.serve import serve

DIARY = Path(__file__).with_name("diary.txt")
PAINT = {"red": 0, "green": 1, "blue": 2}


def write_diary(line):
    with DIARY.open("a") as diary:
        diary.write(f"{line}\n")


@component(name="tint", service="acme.v1.TintService", descriptors=Path(__file__).parent / "acme/v1/tint.proto")
def tint(image, parameters):
    """Lays a colour over an image."""
    if parameters.drying_time:
        write_diary("drying")
        time.sleep(parameters.drying_time)
    paint = np.zeros(3)
    paint[PAINT[parameters.color]] = 255
    mixed = image.array[..., :3] * (1 - parameters.strength) + paint * parameters.strength
    return Result(image.with_array(np.round(mixed).astype(np.uint8)), {"color": parameters.color})


if __name__ == "__main__":
    serve(tint)
