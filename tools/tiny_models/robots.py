"""Robots of gymnasium and dm_control that wave their joints.

Captions say what is measured: where the body went, not what the controls meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from tiny_models.camera import (
    COLOURS,
    MOVES,
    SKIES,
    View,
    film,
    paint_floor,
    paint_sky,
    pick,
    sideways,
)
from tiny_models.clip_files import FPS, Frames

# Source: (noun, camera distance). The files are those that the packages ship.
GYMNASIUM = {
    "ant": ("four-legged ant robot", 4.0),
    "half_cheetah": ("flat running robot", 3.2),
    "hopper": ("one-legged hopping robot", 3.2),
    "humanoid": ("humanoid robot", 4.0),
    "swimmer": ("snake robot", 4.0),
    "walker2d_v5": ("two-legged walking robot", 3.4),
    "inverted_double_pendulum": ("double pendulum on a cart", 3.0),
    "pusher_v5": ("robot arm over a table", 2.6),
    "reacher": ("two-jointed arm", 0.7),
}
SUITE = {
    "acrobot": ("two-link pendulum", 6.0),
    "ball_in_cup": ("cup with a ball on a string", 1.4),
    "cartpole": ("pole on a cart", 4.0),
    "cheetah": ("cheetah robot", 3.2),
    "finger": ("finger that flicks a spinner", 1.2),
    "fish": ("fish", 1.0),
    "hopper": ("hopper robot", 3.0),
    "humanoid_CMU": ("person", 3.6),
    "quadruped": ("four-legged walking machine", 4.0),
    "swimmer": ("chain of links", 2.0),
    "walker": ("pair of walking legs", 3.4),
}


def robots(rng: np.random.Generator) -> Iterator[tuple[str, str, Frames]]:
    """A clip of each robot: source, caption, frames."""
    import gymnasium.envs.mujoco

    assets = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
    for source, (noun, distance) in GYMNASIUM.items():
        model = mujoco.MjModel.from_xml_path(str(assets / f"{source}.xml"))
        yield f"gymnasium-{source}", *_robot(model, noun, distance, rng)
    for source, (noun, distance) in SUITE.items():
        model = mujoco.MjModel.from_xml_string(*_suite_files(source))
        yield f"dm_control-{source}", *_robot(model, noun, distance, rng)


def _suite_files(domain: str) -> tuple[str | bytes, dict[str, bytes]]:
    """The scene of a domain and what it includes, without dm_control's own binding of MuJoCo."""
    import importlib

    module = importlib.import_module(f"dm_control.suite.{domain}")
    files: tuple[str | bytes, dict[str, bytes]]
    if domain == "quadruped":
        files = module.make_model(floor_size=30), module.common.ASSETS
    elif domain == "swimmer":
        files = module.get_model_and_assets(6)
    else:
        files = module.get_model_and_assets()
    return files


def _robot(
    model: mujoco.MjModel, noun: str, distance: float, rng: np.random.Generator
) -> tuple[str, Frames]:
    data = mujoco.MjData(model)
    sky, colour = pick(rng, SKIES), pick(rng, COLOURS)
    under = f" under {sky}" if paint_sky(model, sky) else ""
    floor = paint_floor(model, rng)
    tint = np.array(COLOURS[colour])
    body = model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_rgba[body, :3] = tint * rng.uniform(0.8, 1.2, (int(body.sum()), 1)).clip(0, 1)
    for material in {int(m) for m in model.geom_matid[body]} - {-1}:
        model.mat_rgba[material, :3] = tint
        model.mat_texid[material] = -1
    wave = rng.uniform(0.4, 1.6)
    phase = rng.uniform(0, 2 * np.pi, model.nu)
    reach = rng.uniform(0.5, 1.0)
    limits = np.where(model.actuator_ctrllimited[:, None] > 0, model.actuator_ctrlrange, (-1, 1))

    def advance() -> None:
        for _ in range(round(1 / FPS / model.opt.timestep)):
            share = reach * np.sin(2 * np.pi * wave * data.time + phase)
            data.ctrl[:] = limits.mean(1) + share * (limits[:, 1] - limits[:, 0]) / 2
            mujoco.mj_step(model, data)

    data.qvel[:] = rng.normal(0, 0.3, model.nv)
    for _ in range(int(rng.integers(1, 10))):
        advance()

    def centre() -> Any:
        return data.subtree_com[0].copy()

    view = View(
        rng.uniform(0, 360) if model.nv > 9 else rng.uniform(70, 110),
        rng.uniform(-28, -8),
        distance * rng.uniform(0.8, 1.15),
        pick(rng, MOVES),
    )
    start = centre()
    frames = film(model, data, view, centre, advance)
    right, away = sideways(view, centre() - start)
    way = "waves its joints"
    if max(abs(right), abs(away)) > 0.12 * distance:
        way = f"moves to the {'right' if right > 0 else 'left'}"
        if abs(away) > abs(right):
            way = "moves away" if away > 0 else "moves towards the camera"
    # A skin hides the solids that were painted.
    named = f"a {noun}" if model.nskin else f"a {colour} {noun}"
    return f"{named} {way} on {floor}{under}{MOVES[view.move]}", frames
