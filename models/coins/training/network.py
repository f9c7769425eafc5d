"""The detector: a small fully-convolutional, anchor-free net with YOLO's output layout.

Three scales (strides 8, 16, 32); every cell predicts the distances to a box's four sides, in strides, and a
score. Parameters are a flat dict of arrays, so that training (JAX, here) and export (ONNX) share one list of
layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scenes import INPUT_SIZE

STRIDES = (8, 16, 32)
CELLS = sum((INPUT_SIZE // stride) ** 2 for stride in STRIDES)
VARIANCE_FLOOR = 1e-3

Arrays = dict[str, jax.Array]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution over the layer named `source`, then a batch norm and a ReLU unless it is an output.

    `merge` names a layer half its size; its map, enlarged, is added to the result before the ReLU.
    """

    name: str
    source: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    merge: str = ""
    final: bool = False


LAYERS = (
    Layer("stem", "images", 3, 12, stride=2),
    Layer("down4", "stem", 12, 16, stride=2),
    Layer("body4", "down4", 16, 16),
    Layer("down8", "body4", 16, 32, stride=2),
    Layer("body8", "down8", 32, 32),
    Layer("down16", "body8", 32, 48, stride=2),
    Layer("body16a", "down16", 48, 48),
    Layer("body16b", "body16a", 48, 48),
    Layer("down32", "body16b", 48, 64, stride=2),
    Layer("body32", "down32", 64, 64),
    Layer("squeeze32", "body32", 64, 48, kernel=1),
    Layer("neck16a", "body16b", 48, 48, kernel=1, merge="squeeze32"),
    Layer("neck16b", "neck16a", 48, 48),
    Layer("squeeze16", "neck16b", 48, 32, kernel=1),
    Layer("neck8a", "body8", 32, 32, kernel=1, merge="squeeze16"),
    Layer("neck8b", "neck8a", 32, 32),
    Layer("tower8", "neck8b", 32, 32),
    Layer("tower16", "neck16b", 48, 48),
    Layer("tower32", "body32", 64, 48),
    Layer("head8", "tower8", 32, 5, kernel=1, final=True),
    Layer("head16", "tower16", 48, 5, kernel=1, final=True),
    Layer("head32", "tower32", 48, 5, kernel=1, final=True),
)
HEADS = ("head8", "head16", "head32")


def initial_parameters(seed: int) -> Arrays:
    """He-initialised weights, HWIO. The score's bias starts at a coin in a hundred cells."""
    rng = np.random.default_rng(seed)
    parameters: dict[str, jax.Array] = {}
    for layer in LAYERS:
        shape = (layer.kernel, layer.kernel, layer.inputs, layer.outputs)
        spread = np.sqrt(2 / (layer.kernel**2 * layer.inputs)) if not layer.final else 0.01
        parameters[f"{layer.name}.weight"] = jnp.asarray(rng.normal(0, spread, shape), jnp.float32)
        bias = np.array([1, 1, 1, 1, -4.6]) if layer.final else np.zeros(layer.outputs)
        parameters[f"{layer.name}.bias"] = jnp.asarray(bias, jnp.float32)
        if not layer.final:
            parameters[f"{layer.name}.gain"] = jnp.ones(layer.outputs, jnp.float32)
    return parameters


def initial_statistics() -> Arrays:
    """Running mean and variance of every batch norm."""
    inner = [layer for layer in LAYERS if not layer.final]
    means = {f"{layer.name}.mean": jnp.zeros(layer.outputs) for layer in inner}
    return means | {f"{layer.name}.variance": jnp.ones(layer.outputs) for layer in inner}


def forward(parameters: Arrays, images: jax.Array) -> tuple[jax.Array, Arrays]:
    """Training-mode pass over float32 [N, S, S, 3] in 0..1.

    Returns raw cells [N, A, 5] (left, top, right, bottom before softplus, then the score's logit) and this
    batch's statistics.
    """
    maps: Arrays = {"images": images}
    statistics: Arrays = {}
    for layer in LAYERS:
        value = _convolve(maps[layer.source], parameters[f"{layer.name}.weight"], layer.stride)
        if layer.final:
            maps[layer.name] = value + parameters[f"{layer.name}.bias"]
            continue
        mean, variance = value.mean((0, 1, 2)), value.var((0, 1, 2))
        statistics |= {f"{layer.name}.mean": mean, f"{layer.name}.variance": variance}
        value = (value - mean) * (parameters[f"{layer.name}.gain"] / jnp.sqrt(variance + VARIANCE_FLOOR))
        value = value + parameters[f"{layer.name}.bias"]
        if layer.merge:
            value = value + jnp.repeat(jnp.repeat(maps[layer.merge], 2, 1), 2, 2)
        maps[layer.name] = jax.nn.relu(value)
    cells = [maps[head].reshape(images.shape[0], -1, 5) for head in HEADS]
    return jnp.concatenate(cells, 1), statistics


def _convolve(value: jax.Array, weight: jax.Array, stride: int) -> jax.Array:
    pad = weight.shape[0] // 2
    return jax.lax.conv_general_dilated(
        value, weight, (stride, stride), [(pad, pad), (pad, pad)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def fold(parameters: Arrays, statistics: Arrays, layer: Layer) -> tuple[Floats, Floats]:
    """The layer's inference weight (OIHW) and bias, its batch norm multiplied in."""
    weight = np.asarray(parameters[f"{layer.name}.weight"]).transpose(3, 2, 0, 1)
    bias = np.asarray(parameters[f"{layer.name}.bias"])
    if layer.final:
        return weight, bias
    variance = np.asarray(statistics[f"{layer.name}.variance"])
    scale = np.asarray(parameters[f"{layer.name}.gain"]) / np.sqrt(variance + VARIANCE_FLOOR)
    folded_bias = bias - np.asarray(statistics[f"{layer.name}.mean"]) * scale
    return (weight * scale[:, None, None, None]).astype(np.float32), folded_bias.astype(np.float32)


def cell_grid() -> tuple[Floats, Floats]:
    """Centres [A, 2] (x, y) and strides [A] of all cells, in input pixels, in output order."""
    centres, strides = [], []
    for stride in STRIDES:
        side = INPUT_SIZE // stride
        ticks = (np.arange(side) + 0.5) * stride
        x, y = np.meshgrid(ticks, ticks)
        centres.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full(side * side, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(strides).astype(np.float32)
