"""Trains the coin detector on synthetic scenes and writes ../1/model.onnx.

    python models/coins/training/train.py [--seed 7] [--scenes 2400] [--epochs 6]

Needs no data and no accelerator. The photograph the model is judged by is not read here.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from export import write_onnx
from network import Arrays, cell_grid, forward, initial_parameters, initial_statistics
from numpy.typing import NDArray
from scenes import INPUT_SIZE, Scene, draw_scene

MODEL = Path(__file__).resolve().parent.parent / "1" / "model.onnx"
BATCH = 8
MOST_BOXES = 40
PEAK_RATE = 3e-3
WARMUP_SHARE = 0.05
WEIGHT_DECAY = 1e-4
STATISTICS_MEMORY = 0.98
BOX_LOSS_WEIGHT = 4.0

# A box belongs to a stride when its longer side, in input pixels, is in the stride's span. Spans overlap, so
# that no size falls between two scales.
SPANS = {8: (0.0, 48.0), 16: (36.0, 104.0), 32: (80.0, float(INPUT_SIZE))}
CENTRE_REACH_STRIDES = 1.5


class Batch(NamedTuple):
    """`images`: uint8 [N, S, S, 3]. `boxes`: float32 [N, MOST_BOXES, 4], corners; zero rows are padding."""

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]


class Optimiser(NamedTuple):
    """Adam's first and second moments and the number of steps taken."""

    first: Arrays
    second: Arrays
    step: jax.Array


def draw_scenes(seed: int, count: int) -> list[Scene]:
    """Draws `count` scenes; the same seed gives the same scenes, whatever the number of processors."""
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return list(pool.map(draw_scene, seeds, chunksize=32))


def turned(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene in one of the square's eight symmetries."""
    image, boxes = scene.image, scene.boxes
    if rng.random() < 0.5:
        image = image.transpose(1, 0, 2)
        boxes = boxes[:, [1, 0, 3, 2]]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes = np.stack([INPUT_SIZE - boxes[:, 2], boxes[:, 1], INPUT_SIZE - boxes[:, 0], boxes[:, 3]], 1)
    if rng.random() < 0.5:
        image = image[::-1]
        boxes = np.stack([boxes[:, 0], INPUT_SIZE - boxes[:, 3], boxes[:, 2], INPUT_SIZE - boxes[:, 1]], 1)
    return Scene(image, boxes)


def stacked(scenes: list[Scene]) -> Batch:
    boxes = np.zeros((len(scenes), MOST_BOXES, 4), np.float32)
    for row, scene in zip(boxes, scenes, strict=True):
        row[: len(scene.boxes)] = scene.boxes
    return Batch(np.stack([scene.image for scene in scenes]), boxes)


def assign(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gives every cell of one image the smallest box whose centre it is near, at a fitting stride.

    Returns (positive: bool [A], box: float32 [A, 4]); the box of a negative cell is arbitrary.
    """
    centres, strides = cell_grid()
    low, high = np.array([SPANS[int(s)] for s in strides], np.float32).T
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    longer = jnp.maximum(width, height)
    fits = (longer > low[:, None]) & (longer <= high[:, None])

    x, y = centres[:, :1], centres[:, 1:]
    inside = (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
    away_x = jnp.abs(x - (boxes[:, 0] + boxes[:, 2]) / 2)
    away_y = jnp.abs(y - (boxes[:, 1] + boxes[:, 3]) / 2)
    near = jnp.maximum(away_x, away_y) < CENTRE_REACH_STRIDES * strides[:, None]

    area = jnp.where(fits & inside & near, width * height, jnp.inf)
    return jnp.isfinite(area.min(1)), boxes[area.argmin(1)]


def decoded(cells: jax.Array) -> jax.Array:
    """Corners [..., A, 4] of the boxes the cells predict."""
    centres, strides = cell_grid()
    reach = jax.nn.softplus(cells[..., :4]) * strides[:, None]
    return jnp.concatenate([centres - reach[..., :2], centres + reach[..., 2:]], -1)


def generalised_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """GIoU of corner boxes, pairwise along the last axis (Rezatofighi et al., CVPR 2019)."""

    def area(box: jax.Array) -> jax.Array:
        return jnp.prod(jnp.maximum(box[..., 2:] - box[..., :2], 0), -1)

    def box(near: jax.Array, far: jax.Array) -> jax.Array:
        return jnp.concatenate([near, far], -1)

    shared = area(box(jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])))
    hull = area(box(jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])))
    union = area(a) + area(b) - shared
    return shared / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def loss(parameters: Arrays, batch: Batch) -> tuple[jax.Array, Arrays]:
    """Binary cross-entropy of the scores plus 1 - GIoU of the positive cells' boxes, per positive cell.

    A positive cell's score aims at its own box's GIoU, so that suppression keeps the tightest box (as in
    VarifocalNet, Zhang et al., CVPR 2021).
    """
    cells, statistics = forward(parameters, jnp.asarray(batch.images, jnp.float32) / 255)
    positive, target = jax.vmap(assign)(jnp.asarray(batch.boxes))
    count = jnp.maximum(positive.sum(), 1)
    overlap = generalised_iou(decoded(cells), target)
    quality = jax.lax.stop_gradient(jnp.maximum(overlap, 0)) * positive
    logits = cells[..., 4]
    score_loss = (jax.nn.softplus(logits) - logits * quality).sum() / count
    box_loss = ((1 - overlap) * positive).sum() / count
    return score_loss + BOX_LOSS_WEIGHT * box_loss, statistics


def adam(parameters: Arrays, gradients: Arrays, optimiser: Optimiser, rate: jax.Array) -> tuple[Arrays, Optimiser]:
    """One AdamW step; only convolution weights decay."""
    step = optimiser.step + 1
    first = {k: 0.9 * optimiser.first[k] + 0.1 * g for k, g in gradients.items()}
    second = {k: 0.99 * optimiser.second[k] + 0.01 * g * g for k, g in gradients.items()}

    def moved(name: str) -> jax.Array:
        drift = (first[name] / (1 - 0.9**step)) / (jnp.sqrt(second[name] / (1 - 0.99**step)) + 1e-8)
        decay = WEIGHT_DECAY * parameters[name] if name.endswith(".weight") else 0.0
        return parameters[name] - rate * (drift + decay)

    return {name: moved(name) for name in parameters}, Optimiser(first, second, step)


@jax.jit
def train_step(
    parameters: Arrays, statistics: Arrays, optimiser: Optimiser, batch: Batch, rate: jax.Array
) -> tuple[Arrays, Arrays, Optimiser, jax.Array]:
    (value, fresh), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, batch)
    parameters, optimiser = adam(parameters, gradients, optimiser, rate)
    memory = jnp.minimum(STATISTICS_MEMORY, 1 - 1 / optimiser.step)
    statistics = {k: memory * v + (1 - memory) * fresh[k] for k, v in statistics.items()}
    return parameters, statistics, optimiser, value


def learning_rate(progress: float) -> float:
    """A short linear warm-up, then half a cosine down to nothing; `progress` is 0..1."""
    if progress < WARMUP_SHARE:
        return PEAK_RATE * progress / WARMUP_SHARE
    return PEAK_RATE * 0.5 * (1 + np.cos(np.pi * (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)))


def train(scenes: list[Scene], *, seed: int, epochs: int) -> tuple[Arrays, Arrays]:
    """Returns the trained parameters and the batch norms' running statistics."""
    rng = np.random.default_rng(seed)
    parameters, statistics = initial_parameters(seed), initial_statistics()
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    optimiser = Optimiser(zeros, zeros, jnp.zeros((), jnp.int32))
    per_epoch = len(scenes) // BATCH
    started, losses = time.monotonic(), []
    for step in range(epochs * per_epoch):
        if step % per_epoch == 0:
            order = rng.permutation(len(scenes))
        chosen = order[step % per_epoch * BATCH :][:BATCH]
        batch = stacked([turned(rng, scenes[i]) for i in chosen])
        rate = jnp.float32(learning_rate(step / (epochs * per_epoch)))
        parameters, statistics, optimiser, value = train_step(parameters, statistics, optimiser, batch, rate)
        losses.append(float(value))
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            print(f"step {step + 1:5d}  loss {np.mean(losses[-100:]):.4f}  {seconds:.0f} s", flush=True)
    return parameters, statistics


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the coin detector.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scenes", type=int, default=2400)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--output", type=Path, default=MODEL)
    options = parser.parse_args()
    scenes = draw_scenes(options.seed, options.scenes)
    parameters, statistics = train(scenes, seed=options.seed, epochs=options.epochs)
    write_onnx(parameters, statistics, options.output)


if __name__ == "__main__":
    main()
