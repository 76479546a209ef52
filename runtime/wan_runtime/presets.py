"""Facts about the Wan models. No torch: the operator imports this too.

Shapes and sampling defaults are those of the official releases (Wan-Video/Wan2.1 and Wan2.2,
`wan/configs`).
"""

from __future__ import annotations

from dataclasses import dataclass

from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError

NUM_TRAIN_TIMESTEPS = 1000

NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，"
    "杂乱的背景，三条腿，背景人很多，倒着走"
)
"""Negative prompt of the official sampler (`wan/configs/shared_config.py`, sample_neg_prompt)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """One base model."""

    name: str
    experts: tuple[Expert, ...]
    boundary: float | None
    """Noise level t in [0, 1] at which sampling switches from the high-noise to the low-noise
    expert."""
    shift: float
    """Flow-matching time shift of training and sampling."""
    guidance: float
    """Classifier-free guidance scale, of the official sampler; the Tiny models, which are far less
    certain, draw best at 2."""
    inference_steps: int
    width: int
    height: int
    frames: int
    fps: float
    uses_clip: bool
    """Whether the first frame also enters through CLIP (Wan2.1 only)."""
    teacache: tuple[float, ...] | None = None
    """Polynomial of TeaCache, highest power first, as its authors published it for the changes of
    the projected time embedding (TeaCache4Wan2.1, `use_ret_steps`). None: there is none."""
    tiny: bool = False
    """Its weights come with the runtime; for demos and tests on CPUs."""

    def expert_range(self, expert: Expert) -> tuple[float, float]:
        """(lower, upper) noise levels in [0, 1] that the expert handles."""
        if self.boundary is None or expert is Expert.ONLY:
            return 0.0, 1.0
        return (self.boundary, 1.0) if expert is Expert.HIGH_NOISE else (0.0, self.boundary)

    def experts_of(self, expert: Expert) -> tuple[Expert, ...]:
        """Transformers that a training of `expert` has: both of a pair for ONLY."""
        return self.experts if expert is Expert.ONLY else (expert,)

    @property
    def high_noise_share(self) -> float:
        """Share of the noise levels of training that the high-noise expert of a pair handles."""
        if self.boundary is None:
            return 0.0
        count = NUM_TRAIN_TIMESTEPS
        even = (place / count for place in range(1, count + 1))
        levels = (self.shift * each / (1 + (self.shift - 1) * each) for each in even)
        return sum(level >= self.boundary for level in levels) / count


TEACACHE_720P = (8107.0546, 2133.93892, -372.934672, 16.6203073, -0.0417769401)

_PAIR = (Expert.HIGH_NOISE, Expert.LOW_NOISE)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="Wan2.1-I2V-14B-720P",
            experts=(Expert.ONLY,),
            boundary=None,
            shift=5.0,
            guidance=5.0,
            inference_steps=40,
            width=1280,
            height=720,
            frames=81,
            fps=16,
            uses_clip=True,
            teacache=TEACACHE_720P,
        ),
        Preset(
            name="Wan2.1-I2V-14B-480P",
            experts=(Expert.ONLY,),
            boundary=None,
            shift=3.0,
            guidance=5.0,
            inference_steps=40,
            width=832,
            height=480,
            frames=81,
            fps=16,
            uses_clip=True,
            teacache=(257151.496, -35422.9917, 1402.86849, -13.5890334, 0.132517977),
        ),
        Preset(
            name="Wan2.2-I2V-A14B",
            experts=_PAIR,
            boundary=0.9,
            shift=5.0,
            guidance=3.5,
            inference_steps=40,
            width=1280,
            height=720,
            frames=81,
            fps=16,
            uses_clip=False,
        ),
        Preset(
            name="Wan2.1-I2V-Tiny",
            experts=(Expert.ONLY,),
            boundary=None,
            shift=5.0,
            guidance=2.0,
            inference_steps=8,
            width=128,
            height=96,
            frames=17,
            fps=16,
            uses_clip=True,
            teacache=TEACACHE_720P,  # fitted for another model: to try it out
            tiny=True,
        ),
        Preset(
            name="Wan2.2-I2V-Tiny",
            experts=_PAIR,
            boundary=0.9,
            shift=5.0,
            guidance=2.0,
            inference_steps=8,
            width=128,
            height=96,
            frames=17,
            fps=16,
            uses_clip=False,
            tiny=True,
        ),
    )
}


def preset_named(name: str) -> Preset:
    """Raises InputError(MODEL_INVALID) for a name that this runtime does not know."""
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(Reason.MODEL_INVALID, f"no preset is called {name!r}; there are {known}")
    return PRESETS[name]


def preset_of(job: JobSpec) -> Preset:
    """The job's preset. Raises as `preset_named`."""
    return preset_named(job.base.preset)
