"""A MuJoCo scene filmed: colours with names, a moving camera, frames at 16 a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tiny_models.clip_files import Frames

FRAMES, WIDTH, HEIGHT = 33, 160, 120
OVERSAMPLING = 2
"""Rendered so many times larger a side, then averaged: software rendering without jagged edges."""
COLOURS = {
    "red": (0.80, 0.15, 0.12),
    "orange": (0.92, 0.50, 0.12),
    "yellow": (0.93, 0.83, 0.25),
    "green": (0.20, 0.62, 0.25),
    "blue": (0.16, 0.32, 0.80),
    "purple": (0.50, 0.24, 0.66),
    "pink": (0.93, 0.55, 0.68),
    "white": (0.92, 0.92, 0.92),
    "grey": (0.50, 0.50, 0.52),
    "black": (0.12, 0.12, 0.13),
    "brown": (0.46, 0.30, 0.18),
    "turquoise": (0.20, 0.72, 0.72),
}
SKIES = {
    "a blue sky": ((0.25, 0.50, 0.85), (0.80, 0.90, 1.00)),
    "an evening sky": ((0.25, 0.22, 0.45), (1.00, 0.62, 0.35)),
    "a grey sky": ((0.45, 0.48, 0.52), (0.80, 0.81, 0.82)),
    "a night sky": ((0.02, 0.03, 0.10), (0.12, 0.16, 0.32)),
    "a white sky": ((0.90, 0.90, 0.92), (1.00, 1.00, 1.00)),
}
MOVES = {
    "still": "",
    "follow": ", the camera follows",
    "circle left": ", the camera circles to the left",
    "circle right": ", the camera circles to the right",
    "closer": ", the camera moves closer",
    "back": ", the camera moves back",
    "rise": ", the camera rises",
}


@dataclass(slots=True)
class View:
    """Where the camera starts. Angles in degrees, distance in metres."""

    azimuth: float
    elevation: float
    distance: float
    move: str


def film(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    view: View,
    target: Callable[[], NDArray[np.float64]],
    advance: Callable[[], None],
    frames: int = FRAMES,
) -> Frames:
    """`frames` pictures; `advance` moves the scene on by 1/16 s, `target` is what is looked at."""
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 1024
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, WIDTH * OVERSAMPLING)
    model.vis.global_.offheight = max(model.vis.global_.offheight, HEIGHT * OVERSAMPLING)
    model.mat_reflectance[:] = 0  # the scene would be drawn twice
    # One exposure for scenes with many lamps and scenes with none.
    model.vis.headlight.active = 1
    model.vis.headlight.ambient[:] = 0.3
    model.vis.headlight.diffuse[:] = 0.35
    model.vis.headlight.specular[:] = 0.1
    model.light_diffuse[:] = 0.5 / max(model.nlight, 1)
    model.light_ambient[:] = 0
    renderer = mujoco.Renderer(model, HEIGHT * OVERSAMPLING, WIDTH * OVERSAMPLING)
    camera = mujoco.MjvCamera()
    camera.lookat[:] = target()
    out = np.empty((frames, HEIGHT, WIDTH, 3), np.uint8)
    try:
        for number in range(frames):
            share = number / FRAMES
            camera.azimuth = view.azimuth + share * {"circle left": -50, "circle right": 50}.get(
                view.move, 0
            )
            camera.elevation = view.elevation - (25 * share if view.move == "rise" else 0)
            camera.distance = view.distance * {
                "closer": 1 - 0.45 * share,
                "back": 1 + 0.7 * share,
            }.get(view.move, 1)
            if view.move == "follow":
                camera.lookat[:] += 0.5 * (target() - camera.lookat)
            renderer.update_scene(data, camera)
            picture = Image.fromarray(renderer.render())
            out[number] = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
            advance()
    finally:
        renderer.close()
    return out


def sideways(view: View, shift: NDArray[np.float64]) -> tuple[float, float]:
    """(to the right, away) metres of a shift in the world, as the camera sees it."""
    angle = np.deg2rad(view.azimuth)
    away = np.array([np.cos(angle), np.sin(angle)])
    return float(shift[0] * away[1] - shift[1] * away[0]), float(shift[:2] @ away)


def pick(rng: np.random.Generator, table: Mapping[str, object]) -> str:
    return str(rng.choice(list(table)))


def paint_sky(model: mujoco.MjModel, name: str) -> bool:
    """Overwrite the skybox with a gradient; six square faces, stacked. False: no sky."""
    found = False
    top, horizon = (np.array(colour) * 255 for colour in SKIES[name])
    for texture in range(model.ntex):
        if model.tex_type[texture] != mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            continue
        found = True
        width, height = int(model.tex_width[texture]), int(model.tex_height[texture])
        channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        pixels = np.empty((6, height // 6, width, channels), np.uint8)
        # Right, left, up, down, front, back; rows of the sides run from the zenith downwards.
        slope = np.clip(np.linspace(0, 2, height // 6), 0, 1)[:, None, None]
        pixels[:] = (top + (horizon - top) * slope).astype(np.uint8)
        pixels[2], pixels[3] = top.astype(np.uint8), horizon.astype(np.uint8)
        model.tex_data[start : start + pixels.size] = pixels.ravel()
    return found


def paint_floor(model: mujoco.MjModel, rng: np.random.Generator) -> str:
    """Give every plane a checker of two named colours; returns the words."""
    names = rng.choice(list(COLOURS), 2, replace=False)
    two = np.array([COLOURS[name] for name in names]) * 255
    touched = {
        int(texture)
        for geom in range(model.ngeom)
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE
        for texture in [
            model.mat_texid[model.geom_matid[geom]].max() if model.geom_matid[geom] >= 0 else -1
        ]
        if texture >= 0
    }
    for texture in touched:
        width, height = int(model.tex_width[texture]), int(model.tex_height[texture])
        channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
        rows, columns = np.mgrid[:height, :width]
        parity = ((rows * 2 // height) + (columns * 2 // width)) % 2
        pixels = two[parity].astype(np.uint8)[..., :channels]
        model.tex_data[start : start + pixels.size] = pixels.ravel()
    if not touched:
        model.geom_rgba[model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE, :3] = two[0] / 255
        return f"a {names[0]} floor"
    for geom in range(model.ngeom):
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE:
            model.geom_rgba[geom] = 1
            model.mat_rgba[model.geom_matid[geom]] = 1
    return f"a {names[0]} and {names[1]} checkered floor"
