"""The parts of a base model, and which of them a step loads: no pod fetches or verifies the others.

No torch: the planner counts by the same list.
"""

from __future__ import annotations

from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.steps import FACTS, Expert, Step
from wan_runtime.presets import PRESETS

DIT = "dit"
TEXT_ENCODER = "text_encoder"
TOKENIZER = "tokenizer"
VAE = "vae"
IMAGE_ENCODER = "image_encoder"


def dit_part(expert: Expert) -> str:
    """`dit`, or `dit-HighNoise` and `dit-LowNoise` of a pair."""
    return DIT if expert is Expert.ONLY else f"{DIT}-{expert}"


def loaded_by(
    step: Step, preset: str, expert: Expert = Expert.ONLY, *, previews: bool = False
) -> tuple[str, ...]:
    """Parts of `preset` that a step loads. `previews`: whether training renders some."""
    facts = FACTS[step]
    transformers = {
        "None": [],
        "Own": [dit_part(each) for each in PRESETS[preset].experts_of(expert)],
        "All": [dit_part(each) for each in PRESETS[preset].experts],
    }
    encoders = [TOKENIZER, TEXT_ENCODER, VAE] if facts.encoders else []
    if facts.encoders and PRESETS[preset].uses_clip:
        encoders.append(IMAGE_ENCODER)
    if previews and facts.transformers == "Own":
        encoders.append(VAE)
    return (*transformers[facts.transformers], *encoders)


def needed(job: JobSpec) -> tuple[str, ...]:
    """Parts that the job's step loads."""
    previews = job.work.renders_previews
    return loaded_by(job.step, job.base.preset, job.expert, previews=previews)
