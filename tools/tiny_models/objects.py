"""Solids that fall, roll, spin and collide on a floor, built here as MuJoCo scenes."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
from numpy.typing import NDArray

from tiny_models.camera import (
    COLOURS,
    MOVES,
    SKIES,
    View,
    film,
    paint_sky,
    pick,
)
from tiny_models.clip_files import FPS, Frames

SHAPES = {
    "ball": ("sphere", "{0}"),
    "box": ("box", "{0} {0} {0}"),
    "brick": ("box", "{0} {1} {1}"),
    "can": ("cylinder", "{1} {0}"),
    "pill": ("capsule", "{1} {0}"),
    "egg": ("ellipsoid", "{1} {1} {0}"),
}
ACTIONS = ("rolls", "falls", "spins", "flies", "swings", "is hit", "tower")
SCENE = """
<mujoco>
 <option timestep="0.004"/>
 <statistic extent="5" center="0 0 0.5"/>
 <asset>
  <texture name="sky" type="skybox" builtin="gradient" width="64" height="384"/>
  <texture name="floor" type="2d" builtin="{pattern}" rgb1="{floor1}" rgb2="{floor2}" mark="{mark}"
   markrgb="{floor2}" width="128" height="128"/>
  <material name="floor" texture="floor" texrepeat="{repeat} {repeat}" texuniform="true"/>
 </asset>
 <worldbody>
  <light pos="{light} 4" dir="0 0 -1" directional="true" castshadow="true"/>
  <geom type="plane" size="30 30 1" material="floor" friction="{friction}"/>
  {bodies}
 </worldbody>
</mujoco>"""


def objects(number: int, rng: np.random.Generator) -> Iterator[tuple[str, str, Frames]]:
    """A clip of one kind of action, which is its source, with its caption."""
    action = ACTIONS[number % len(ACTIONS)]
    caption, frames = _scene(action, rng)
    yield f"objects-{action.replace(' ', '-')}", caption, frames


def _scene(action: str, rng: np.random.Generator) -> tuple[str, Frames]:
    view = View(
        rng.uniform(0, 360),
        rng.uniform(-35, -12),
        rng.uniform(3.0, 4.5),
        str(rng.choice(["still", "still", *MOVES])),
    )
    angle = np.deg2rad(view.azimuth)
    away = np.array([np.cos(angle), np.sin(angle)])
    right = np.array([away[1], -away[0]])
    side = 1 if rng.random() < 0.5 else -1
    towards = "right" if side > 0 else "left"
    colours = [str(c) for c in rng.choice(list(COLOURS), 5, replace=False)]
    shape = str(rng.choice(list(SHAPES)))
    bodies, speeds, deed = [], [], ""
    if action == "rolls":
        shape = "ball"
        bodies = [_body(shape, colours[0], -1.2 * side * right, 0.35, rng)]
        speeds = [(side * rng.uniform(1.2, 2.2) * right, 0.0, 0.0)]
        deed = f"a {colours[0]} ball rolls to the {towards}"
    elif action == "falls":
        height = rng.uniform(1.2, 2.0)
        bodies = [_body(shape, colours[0], np.zeros(2), height, rng)]
        speeds = [(0.2 * rng.normal(size=2), 0.0, rng.uniform(-3, 3))]
        deed = f"a {colours[0]} {shape} falls on the floor"
    elif action == "spins":
        bodies = [_body(shape, colours[0], np.zeros(2), 0.65, rng)]
        speeds = [(np.zeros(2), 0.0, -side * rng.uniform(6, 12))]
        deed = f"a {colours[0]} {shape} spins"
    elif action == "flies":
        bodies = [_body(shape, colours[0], -1.6 * side * right, 0.65, rng)]
        speeds = [(side * rng.uniform(1.5, 2.4) * right, rng.uniform(3.0, 4.2), 4.0)]
        deed = f"a {colours[0]} {shape} flies through the air to the {towards}"
    elif action == "swings":
        bodies = [_pendulum(colours[0], right, side * rng.uniform(0.5, 1.1))]
        deed = f"a {colours[0]} ball swings on a rod"
    elif action == "is hit":
        bodies = [
            _body("ball", colours[0], -1.5 * side * right, 0.35, rng, None, 4.0),
            _body(shape, colours[1], 0.1 * away, 0.5, rng),
        ]
        speeds = [(side * rng.uniform(2.4, 3.6) * right, 0.0, 0.0)]
        deed = f"a {colours[0]} ball rolls to the {towards} and hits a {colours[1]} {shape}"
    else:
        bodies = [
            _body("box", colours[level], rng.normal(0, 0.02, 2), 0.3 + 0.6 * level, rng, 0.3)
            for level in range(3)
        ]
        bodies.append(_body("ball", colours[3], -2.0 * side * right, 0.5, rng, 0.4, 4.0))
        speeds = [(np.zeros(2), 0.0, 0.0)] * 3 + [(side * rng.uniform(3.5, 5) * right, 1.5, 0.0)]
        origin = "left" if side > 0 else "right"
        deed = f"a {colours[3]} ball from the {origin} hits a tower of three boxes"
    floor, pattern, words = _floor(rng)
    sky = pick(rng, SKIES)
    model = mujoco.MjModel.from_xml_string(
        SCENE.format(
            bodies="\n".join(bodies),
            light=f"{rng.uniform(-2, 2):.2f} {rng.uniform(-2, 2):.2f}",
            friction="1 0.005 0.0001",
            repeat=round(rng.uniform(0.3, 1.0), 2),
            **floor,
            **pattern,
        )
    )
    paint_sky(model, sky)
    data = mujoco.MjData(model)
    for number, (flat, up, turn) in enumerate(speeds):
        data.qvel[6 * number : 6 * number + 6] = [*flat, up, 0, 0, turn]
    mujoco.mj_forward(model, data)
    first = 1

    def target() -> NDArray[np.float64]:
        if view.move == "follow" and action not in ("tower", "swings"):
            return np.array(data.xpos[first])
        return np.array([0.0, 0.0, 0.6])

    def advance() -> None:
        for _ in range(round(1 / FPS / model.opt.timestep)):
            mujoco.mj_step(model, data)

    frames = film(model, data, view, target, advance)
    return f"{deed} on {words} under {sky}{MOVES[view.move]}", frames


def _floor(rng: np.random.Generator) -> tuple[dict[str, str], dict[str, str], str]:
    one, two = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    colours = {"floor1": _rgb(one), "floor2": _rgb(two)}
    kind = rng.integers(3)
    if kind == 0:
        return colours, {"pattern": "checker", "mark": "none"}, f"a {one} and {two} checkered floor"
    if kind == 1:
        return colours, {"pattern": "flat", "mark": "edge"}, f"a {one} floor with {two} lines"
    return colours, {"pattern": "flat", "mark": "none"}, f"a {one} floor"


def _rgb(name: str) -> str:
    return " ".join(str(value) for value in COLOURS[name])


def _body(
    shape: str,
    colour: str,
    flat: NDArray[np.float64],
    height: float,
    rng: np.random.Generator,
    size: float | None = None,
    weight: float = 1.0,
) -> str:
    kind, form = SHAPES[shape]
    size = size or rng.uniform(0.25, 0.38)
    turn = "0 0 0" if size == 0.3 or shape == "ball" else f"0 0 {rng.uniform(0, 360):.0f}"
    return (
        f'<body pos="{flat[0]:.3f} {flat[1]:.3f} {height:.3f}" euler="{turn}"><freejoint/>'
        f'<geom type="{kind}" size="{form.format(round(size, 3), round(size * 0.6, 3))}" '
        f'rgba="{_rgb(colour)} 1" density="{300 * weight}" friction="1 0.005 0.0001" '
        f'solref="0.01 {rng.uniform(0.3, 1):.2f}"/></body>'
    )


def _pendulum(colour: str, right: NDArray[np.float64], angle: float) -> str:
    away = np.array([-right[1], right[0]])
    tip = np.array([np.sin(angle) * right[0], np.sin(angle) * right[1], -np.cos(angle)]) * 1.1
    end = " ".join(f"{value:.3f}" for value in tip)
    return (
        f'<body pos="0 0 1.6"><joint type="hinge" axis="{away[0]:.3f} {away[1]:.3f} 0" '
        f'damping="0.02"/><geom type="capsule" fromto="0 0 0 {end}" size="0.025" '
        f'rgba="0.3 0.3 0.3 1"/><geom type="sphere" pos="{end}" size="0.25" '
        f'rgba="{_rgb(colour)} 1"/></body>'
    )
