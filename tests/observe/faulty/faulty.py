"""A component with the faults that components have: it fails by a mistake of its own, takes long, or both not."""

import time

from imageflow_common.component import Result, component
from imageflow_common.serve import serve


@component(name="faulty", service="imageflow.v1.ResizeService")
def faulty(image, parameters):
    """Fails at width 1, takes long at width 2."""
    if parameters.width == 1:
        raise KeyError("a mistake")
    if parameters.width == 2:
        time.sleep(1.5)
    return Result(image)


if __name__ == "__main__":
    serve(faulty)
