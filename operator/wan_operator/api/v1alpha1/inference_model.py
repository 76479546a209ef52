"""WanInferenceService.spec: what can be asked for - sizes, sampling, adapters and effects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, list_map, rule
from wan_operator.api.v1alpha1.common import ApiModel, LocalObjectReference, S3Uri, rules
from wan_operator.api.v1alpha1.finetune_dataset import Frames, Side
from wan_operator.api.v1alpha1.finetune_training import BY_EXPERT

MAX_ADAPTERS = 64
MAX_EFFECTS = 64
MAX_USES = 4

ServedName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Cel(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and '-'",
    ),
]
Strength = Annotated[float, Field(ge=-4, le=4)]
Guidance = Annotated[float, Field(ge=1, le=30)]


class VideoSize(ApiModel):
    width: Side
    """Pixels."""
    height: Side
    """Pixels."""


class AdapterFiles(ApiModel):
    """LoRA files made elsewhere, under the names of DiffSynth, ComfyUI or Diffusers."""

    model_config = ConfigDict(json_schema_extra=rules(BY_EXPERT))

    uri: S3Uri | None = None
    """A .safetensors file, for Wan2.1; for Wan2.2 it works on both experts."""
    high_noise: S3Uri | None = None
    """For this expert of Wan2.2 alone."""
    low_noise: S3Uri | None = None
    """For this expert of Wan2.2 alone."""


class Adapter(ApiModel):
    """A LoRA, from a fine-tune or from files."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.fineTuneRef) != has(self.files)",
                "set exactly one of fineTuneRef and files",
            ),
        )
    )

    name: ServedName
    """By which requests and effects know it."""
    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune with method.lora, of the same preset. Waited for while it trains; a run that
    takes its name later is followed by a rollout."""
    files: AdapterFiles | None = None
    """In the service's bucket."""
    strength: Strength = 1.0
    """Of requests that don't say."""
    trigger: Annotated[str, Field(max_length=256)] = ""
    """Words that its captions had, shown in /v1/models."""


class AdapterUse(ApiModel):
    name: ServedName
    """One of spec.adapters."""
    strength: Strength | None = None
    """Default: the adapter's own."""
    expert: Literal["HighNoise", "LowNoise"] | None = None
    """Only on this expert of Wan2.2. Default: on all that it has weights for."""


class Sampling(ApiModel):
    """How a video is sampled; what is left out comes from the next in line: request, effect,
    service, preset."""

    size: VideoSize | None = None
    """One of spec.sizes."""
    frames: Frames | None = None
    """Of a video."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Frames a second."""
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Of denoising."""
    guidance: Guidance | None = None
    """Classifier-free guidance scale; 1 makes a video in half the time and heeds the prompt less.
    """
    guidance_low: Guidance | None = None
    """Of Wan2.2's low-noise expert. Default: as guidance."""
    shift: Annotated[float, Field(gt=0, le=30)] | None = None
    """Time shift of flow matching."""
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None
    """What should not be seen."""


class Effect(ApiModel):
    """A name for a look: adapters, a prompt around the user's, and settings."""

    name: ServedName
    """By which requests ask for it, as `model`."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """For people, shown in /v1/models and the studio."""
    adapters: Annotated[list[AdapterUse], list_map("name"), Field(max_length=MAX_USES)] = Field(
        default=[]
    )
    """At work in it."""
    prompt: Annotated[str, Field(max_length=4000)] = "{prompt}"
    """Template: `{prompt}` is replaced by the request's prompt, which may be empty."""
    sampling: Sampling = Sampling()
    """What is left out comes from spec.defaults."""
    preview: Annotated[
        str,
        Field(max_length=2048),
        Cel(
            "self == '' || self.matches('^(s3|https)://[^ ]+$')",
            "must be an s3:// or https:// address",
        ),
    ] = ""
    """Of a clip that shows it: in the service's bucket, or anywhere."""
