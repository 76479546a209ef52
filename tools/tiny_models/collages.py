"""Scenes made of photographs: a cut-out of one that moves over another, and pictures that ripple.

Cheap to make and rich in texture; besides the film the only clips in which soft things move.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from tiny_models.camera import FRAMES, HEIGHT, WIDTH
from tiny_models.clip_files import HELD_OUT, Frames
from tiny_models.recordings import box_in, crop

Photographs = dict[str, tuple[str, Image.Image]]
DIRECTIONS = {
    "moves to the right": (1, 0),
    "moves to the left": (-1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
    "grows": (0, 0),
    "shrinks": (0, 0),
    "turns": (0, 0),
}


def collage(
    shots: Photographs, number: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, Frames]]:
    """A round or square cut-out of a photograph over another one."""
    front, back = (str(name) for name in rng.choice(trainable(shots), 2, replace=False))
    deed = list(DIRECTIONS)[number % len(DIRECTIONS)]
    form = "round" if rng.random() < 0.5 else "square"
    frames = _collage(shots[front][1], shots[back][1], deed, form, rng)
    caption = f"a {form} picture of {shots[front][0]} {deed} in front of {shots[back][0]}"
    yield f"collage-{deed.replace(' ', '-')}", caption, frames


def ripples(
    shots: Photographs, number: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, Frames]]:
    """A photograph seen through moving water."""
    names = trainable(shots)
    noun, picture = shots[names[number % len(names)]]
    yield "ripples", f"{noun} under rippling water", _ripple(_still(picture, rng), rng)


def trainable(shots: Photographs) -> list[str]:
    """Names of the photographs that are not held out."""
    return [name for name in shots if f"photograph-{name}" not in HELD_OUT]


def _still(picture: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    shape = (picture.height, picture.width)
    return crop(picture, box_in(shape, rng.uniform(0.4, 1.0), rng.uniform(0, 1, 2)))


def _collage(
    front: Image.Image, back: Image.Image, deed: str, form: str, rng: np.random.Generator
) -> Frames:
    behind, before = _still(back, rng).astype(np.float32), _still(front, rng).astype(np.float32)
    across, down = DIRECTIONS[deed]
    travel = rng.uniform(40, 90)
    size = rng.uniform(22, 40)
    middle = np.array([WIDTH / 2, HEIGHT / 2]) + rng.uniform(-20, 20, 2)
    turn = rng.uniform(0.6, 1.6) * (1 if rng.random() < 0.5 else -1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    out = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for number in range(FRAMES):
        share = number / (FRAMES - 1)
        x = columns - middle[0] - across * travel * (share - 0.5)
        y = rows - middle[1] - down * travel * 0.8 * (share - 0.5)
        angle = turn * share if deed == "turns" else 0.0
        scale = {"grows": 0.6 + 0.8 * share, "shrinks": 1.4 - 0.8 * share}.get(deed, 1.0)
        u = (np.cos(angle) * x + np.sin(angle) * y) / scale
        v = (np.cos(angle) * y - np.sin(angle) * x) / scale
        away = np.hypot(u, v) if form == "round" else np.maximum(abs(u), abs(v))
        mask = np.clip(size - away, 0, 1)[..., None]
        places = np.stack([v + HEIGHT / 2, u + WIDTH / 2])
        moved = np.stack(
            [map_coordinates(before[..., c], places, order=1, mode="nearest") for c in range(3)], -1
        )
        out[number] = (behind + mask * (moved - behind)).round().clip(0, 255).astype(np.uint8)
    return out


def _ripple(still: NDArray[np.uint8], rng: np.random.Generator) -> Frames:
    picture = still.astype(np.float32)
    # Two smooth fields of displacement, of which a turning phase makes a wave.
    fields = gaussian_filter(rng.normal(size=(2, 2, HEIGHT, WIDTH)), (0, 0, 14, 14), mode="wrap")
    fields *= rng.uniform(2.0, 4.5) / fields.std()
    speed = rng.uniform(0.5, 1.3) * 2 * np.pi
    places = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    out = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for number in range(FRAMES):
        phase = speed * number / 16
        here = places + np.cos(phase) * fields[0] + np.sin(phase) * fields[1]
        layers = [map_coordinates(picture[..., c], here, order=1, mode="mirror") for c in range(3)]
        out[number] = np.stack(layers, -1).round().clip(0, 255).astype(np.uint8)
    return out
