"""The steps of runs, and the table of facts about them.

A new step is a member of `Step` and its facts here, and what its kind of work and its planner say
of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from wan_runtime.contract.base import Contract


class Step(StrEnum):
    """A step of a run, by the name that is also its command of `wan-runtime`. One Job each, in this
    order."""

    PREPARE = "prepare"
    """Checks the weights to start from and every clip, splits by source video, writes the dataset
    manifest. CPU."""
    IMPORT = "import"
    """Verifies the base model, converts what is no safetensors, writes its manifest. CPU."""
    ENCODE = "encode"
    """Fills the content-addressed latent cache: T5, CLIP and VAE. GPU."""
    TRAIN = "train"
    """Trains one expert from the cache. GPU."""
    EXPORT = "export"
    """Converts the trained weights to the formats asked for and commits the artifact. CPU."""
    SAMPLE = "sample"
    """Renders base and fine-tuned videos for held-out first frames with equal seeds. GPU."""
    COLLECT = "collect"
    """Checks the clips that an evaluation compares its candidates on, and cuts their first frames.
    CPU."""
    GENERATE = "generate"
    """Renders the videos of one candidate. GPU."""
    SCORE = "score"
    """Measures all videos beside the clips. CPU."""
    RATE = "rate"
    """Serves the page on which people judge the videos, until they have or its time is over. CPU.
    """
    COMPARE = "compare"
    """Chooses the winner, and commits the report. CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFacts:
    """All that differs from step to step, for the runtime, the planner and the operator."""

    module: str
    """Module whose `run` does the step. Imported only when it is its turn: most of them bring
    torch, which takes seconds and gigabytes."""
    help: str
    """One line for the command line."""
    gpu: bool = False
    """Whether its pod needs GPUs."""
    holds_weights: bool = False
    """Whether its pod holds a model or trained weights, so that the planner counts its memory."""
    encoders: bool = False
    """Whether it loads the encoders and the VAE."""
    transformers: Literal["None", "Own", "All"] = "None"
    """Which transformers it loads: that of its expert, or those of all experts."""
    spreads: bool = False
    """Whether several processes may do it together, one for each GPU."""
    repeats: bool = False
    """Whether an attempt does again on its GPUs what the last one had not committed."""
    has_checkpoints: bool = False
    """Whether an attempt goes on from the newest checkpoint of the last one."""
    verifies: bool = False
    """Whether it verifies input before a GPU is held, so that wrong input is waited for."""
    serves_people: bool = False
    """Whether its pod serves a page to people."""
    checks_cache: bool = False
    """Whether it checks that the store takes what later steps will write to the cache of all runs.
    """
    must_commit: bool = False
    """Whether it is done only with a manifest: the result of its run."""
    cleanup: str | None = None
    """Module whose `remove` deletes what attempts kept in the store, once the result is there."""


FACTS: dict[Step, StepFacts] = {
    Step.PREPARE: StepFacts(
        module="wan_runtime.training.prepare",
        help="check every clip, split them by recording, commit the dataset (CPU)",
        verifies=True,
        checks_cache=True,
    ),
    Step.IMPORT: StepFacts(
        module="wan_runtime.models.importer",
        help="verify the base model and convert what is no safetensors (CPU)",
        verifies=True,
    ),
    Step.ENCODE: StepFacts(
        module="wan_runtime.data.cache",
        help="fill the latent cache with text, image and video latents (GPU)",
        gpu=True,
        holds_weights=True,
        encoders=True,
    ),
    Step.TRAIN: StepFacts(
        module="wan_runtime.training.train",
        help="train one expert from the cache, resuming from its last checkpoint (GPU)",
        gpu=True,
        holds_weights=True,
        transformers="Own",
        spreads=True,
        repeats=True,
        has_checkpoints=True,
        cleanup="wan_runtime.training.leftovers",
    ),
    Step.EXPORT: StepFacts(
        module="wan_runtime.training.export",
        help="convert the trained weights and commit them (CPU)",
        holds_weights=True,
        must_commit=True,
    ),
    Step.SAMPLE: StepFacts(
        module="wan_runtime.training.sample",
        help="render base and fine-tuned videos of held-out first frames (GPU)",
        gpu=True,
        holds_weights=True,
        encoders=True,
        transformers="All",
        repeats=True,
    ),
    Step.COLLECT: StepFacts(
        module="wan_runtime.evaluation.collect",
        help="check the clips that candidates are compared on (CPU)",
        verifies=True,
        checks_cache=True,
    ),
    Step.GENERATE: StepFacts(
        module="wan_runtime.evaluation.generate",
        help="render the videos of one candidate (GPU)",
        gpu=True,
        holds_weights=True,
        encoders=True,
        transformers="All",
    ),
    Step.SCORE: StepFacts(
        module="wan_runtime.evaluation.score",
        help="measure all videos beside the clips (CPU)",
    ),
    Step.RATE: StepFacts(
        module="wan_runtime.evaluation.rate",
        help="serve the page on which people judge the videos (CPU)",
        serves_people=True,
    ),
    Step.COMPARE: StepFacts(
        module="wan_runtime.evaluation.compare",
        help="choose the winner and commit the report (CPU)",
        must_commit=True,
    ),
}

CHECKPOINTED = tuple(step for step, facts in FACTS.items() if facts.has_checkpoints)
"""Steps whose attempts go on from one another."""


class Expert(StrEnum):
    """Which transformer of the model is trained."""

    ONLY = "Only"
    """Wan2.1 has one transformer for all noise levels."""
    HIGH_NOISE = "HighNoise"
    LOW_NOISE = "LowNoise"


SUFFIXES = {Expert.ONLY: "", Expert.HIGH_NOISE: "-high-noise", Expert.LOW_NOISE: "-low-noise"}
"""Ends of the names of what belongs to one expert: its train step, its files."""


class Shard(Contract):
    """A part of the clips: every `count`th, beginning with number `index` from 0."""

    index: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)]


def step_id(
    step: Step,
    expert: Expert = Expert.ONLY,
    shard: Shard | None = None,
    candidate: str | None = None,
) -> str:
    """Name of a step within a run, fit for a Kubernetes object name."""
    whose = "" if candidate is None else f"-{candidate}"
    part = "" if shard is None else f"-part{shard.index + 1}"
    return f"{step}{SUFFIXES[expert]}{whose}{part}"
