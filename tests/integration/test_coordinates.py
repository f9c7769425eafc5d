"""A box that is found after resizing, cropping and letterboxing lies where the object is in the pipeline's input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from imageflow.v1.resize_pb2 import ResizeParameters
from imageflow_common.pixels import Pixels
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector, Question, Tiling
from imageflow_detect.models import ModelRepository
from imageflow_detect.toy_models import manifest_of, save_model
from imageflow_resize.app import resize

WIDTH, HEIGHT = 320, 256
"""Of the network's input."""


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Its network measures the one bright rectangle on black, to a part of a pixel: how much of its brightest row and
    column is lit, and where the middle of that is."""
    folder = tmp_path_factory.mktemp("models")
    for fit in ("letterbox", "stretch"):
        file = folder / fit / "1" / "model.onnx"
        file.parent.mkdir(parents=True)
        _measuring_network(file)
        size = {"width": WIDTH, "height": HEIGHT}
        manifest = manifest_of(fit, labels=["bright"], input={"size": size, "fit": fit, "letterbox_colour": [0, 0, 0]})
        (folder / fit / "manifest.yaml").write_text(manifest.to_yaml())
    return Detector(ModelRepository(folder), OnnxBackend())


def _measuring_network(file: Path) -> None:
    def node(kind: str, inputs: str, output: str, **attributes: object) -> object:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    nodes = [node("ReduceMax", "images channels", "grey", keepdims=0)]
    for axis, other in (("x", "rows"), ("y", "columns")):
        nodes += [
            node("ReduceMax", f"grey {other}", f"profile_{axis}", keepdims=0),
            node("ReduceSum", f"profile_{axis} one", f"all_{axis}", keepdims=1),
            node("Max", f"all_{axis} least", f"lit_{axis}"),  # a blank image has no middle
            node("Mul", f"profile_{axis} places_{axis}", f"moments_{axis}"),
            node("ReduceSum", f"moments_{axis} one", f"moment_{axis}", keepdims=1),
            node("Div", f"moment_{axis} lit_{axis}", f"centre_{axis}"),
        ]
    nodes.append(node("Concat", "centre_x centre_y lit_x lit_y certain", "row", axis=1))
    nodes.append(node("Reshape", "row shape", "output0"))
    constants = {
        "channels": np.array([1]),
        "rows": np.array([1]),
        "columns": np.array([2]),
        "one": np.array([1]),
        "places_x": (np.arange(WIDTH) + 0.5).astype(np.float32),
        "places_y": (np.arange(HEIGHT) + 0.5).astype(np.float32),
        "least": np.array([[1e-6]], np.float32),
        "certain": np.array([[0.9]], np.float32),
        "shape": np.array([1, 5, 1]),
    }
    image = ("images", TensorProto.FLOAT, (1, 3, HEIGHT, WIDTH))
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    save_model(nodes, tensors, file, image, [("output0", (1, 5, 1))], opset=18)


def rectangle(data: st.DataObject, width: int, height: int) -> tuple[int, int, int, int]:
    wide, high = data.draw(st.integers(width // 8, width // 2)), data.draw(st.integers(height // 8, height // 2))
    x, y = data.draw(st.integers(0, width - wide)), data.draw(st.integers(0, height - high))
    return x, y, x + wide, y + high


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_box_found_after_all_of_it_is_within_half_a_pixel_of_its_own_scale(
    detector: Detector, data: st.DataObject
) -> None:
    width, height = data.draw(st.integers(40, 900)), data.draw(st.integers(40, 900))
    corners = rectangle(data, width, height)
    array = np.zeros((height, width, 3), np.uint8)
    array[corners[1] : corners[3], corners[0] : corners[2]] = 255
    parameters = ResizeParameters(
        width=data.draw(st.integers(100, 900)),
        height=data.draw(st.integers(100, 900)),
        maintain_aspect_ratio=True,
        fit=data.draw(st.sampled_from(["contain", "cover", "fill"])),
        gravity=data.draw(st.sampled_from(["center", "north", "southeast", "west"])),
        kernel=data.draw(st.sampled_from(["linear", "cubic"])),
        enlarge=data.draw(st.booleans()),
    )
    resized = resize(Pixels(array), parameters=parameters).pixels
    assert resized is not None
    seen = seen_part(corners, resized)
    model = data.draw(st.sampled_from(["letterbox", "stretch"]))
    (found,) = detector.detect(resized, Question(model)).found
    box = found.input_box
    pixel = np.array(scale_of(resized, model))
    np.testing.assert_array_less(np.abs(np.array([box.x, box.y]) - seen[:2]), 0.5 * pixel)
    np.testing.assert_array_less(np.abs(np.array([box.x + box.width, box.y + box.height]) - seen[2:]), 0.5 * pixel)


def test_a_box_found_in_a_tile_lies_where_it_is_in_the_input(detector: Detector) -> None:
    """A picture of four tiles, with an object in the last."""
    array = np.zeros((500, 600, 1), np.uint8)
    array[400:450, 420:500] = 255
    (found,) = detector.detect(Pixels(array), Question("letterbox", tiling=Tiling(300, 0.0))).found
    assert (found.input_box.x, found.input_box.y) == pytest.approx((420, 400), abs=0.5)
    assert (found.input_box.width, found.input_box.height) == pytest.approx((80, 50), abs=0.5)


def seen_part(corners: tuple[int, int, int, int], pixels: Pixels) -> np.ndarray:
    """What the crop left of the rectangle, in the input's pixels; a case where that is little is not looked at."""
    window = pixels.to_input.apply(np.array([[0.0, 0.0], [pixels.width, pixels.height]]))
    left, top = np.maximum(corners[:2], window[0])
    right, bottom = np.minimum(corners[2:], window[1])
    least = 4 * np.array(scale_of(pixels, "letterbox"))
    assume(right - left > least[0] and bottom - top > least[1])
    return np.array([left, top, right, bottom])


def scale_of(pixels: Pixels, model: str) -> tuple[float, float]:
    """How many of the input's pixels the coarsest pixel on the way is, across and down."""
    into = pixels.to_input
    across, down = pixels.width / WIDTH, pixels.height / HEIGHT
    if model == "letterbox":
        across = down = max(across, down)
    return max(1.0, into.a, into.a * across), max(1.0, into.e, into.e * down)
