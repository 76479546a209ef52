"""WanInferenceService.spec: what requests may ask for - sizes, sampling, adapters and effects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, list_map, rule, syntax
from wan_operator.api.v1alpha1.common import ApiModel, LocalObjectReference, rules
from wan_operator.api.v1alpha1.model import AdapterFiles, Frames, VideoSize
from wan_operator.api.v1alpha1.syntax import FILE, PREVIEW, ObjectName
from wan_runtime.contract.evaluation import CANDIDATE_LIMIT, WINNER

MAX_ADAPTERS = 64
MAX_EFFECTS = 64
MAX_USES = 4

ServedName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    syntax(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and '-'",
    ),
]
_REST = "self.replace('{prompt}', '')"
_PLACEHOLDER = "[{][A-Za-z_][A-Za-z0-9_ ]*[}]"

Strength = Annotated[float, Field(ge=-4, le=4)]
Guidance = Annotated[float, Field(ge=1, le=30)]


class FromEvaluation(ApiModel):
    """Candidate of a WanEvaluation, once that is complete."""

    name: ObjectName
    """Name of a WanEvaluation in the same namespace."""
    candidate: Annotated[
        str,
        Field(min_length=1, max_length=CANDIDATE_LIMIT),
        syntax(
            "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "must be the name of a candidate"
        ),
    ] = WINNER
    """Name of a candidate, or `winner`."""


class Distilled(ApiModel):
    """Schedule that an adapter was distilled for: Euler steps without guidance, so that each step
    is one pass of the transformer."""

    steps: Annotated[int, Field(ge=1, le=50)] = 4
    """Number of denoising steps."""
    shift: Annotated[float, Field(gt=0, le=30)] = 5.0
    """Time shift of flow matching."""


class Adapter(ApiModel):
    """LoRA from a fine-tune, an evaluation or from files. Exactly one of fineTuneRef,
    fromEvaluation and files is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.fineTuneRef), has(self.fromEvaluation), has(self.files)]"
                ".filter(each, each).size() == 1",
                "set exactly one of fineTuneRef, fromEvaluation and files",
            ),
        )
    )

    name: ServedName
    """Name of the adapter in requests and effects."""
    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune with method.lora and the same preset, whose weights are served. The service waits
    until they are exported; if a later run with the same name exports others, they are rolled out.
    """
    from_evaluation: FromEvaluation | None = None
    """Candidate of a WanEvaluation that is a LoRA of a fine-tune with the same preset. The service
    waits until the evaluation is complete; if a later one of the same name finds another winner,
    that is rolled out."""
    files: AdapterFiles | None = None
    """LoRA files made elsewhere, read with the endpoint and credentials of the store.
    docs/datasets.md has the tools whose names of tensors are read."""
    strength: Strength = 1.0
    """Strength of the adapter when a request gives none. A value of 1 is the strength as trained.
    """
    trigger: Annotated[str, Field(max_length=256)] = ""
    """Trigger words from the captions of the training clips, shown in /v1/models."""
    distilled: Distilled | None = None
    """Schedule of an adapter that was distilled for few steps, as the LoRAs of lightx2v are. Videos
    with the adapter have exactly these steps and this shift, and no guidance, whatever
    spec.defaults has; a request for another schedule or with a negative prompt is refused. Default:
    none, for an adapter that leaves the schedule alone."""


class AdapterUse(ApiModel):
    """Adapter that an effect applies."""

    name: ServedName
    """Name of an adapter in spec.adapters."""
    strength: Strength | None = None
    """Strength of the adapter in this effect. Default: the adapter's own."""
    expert: Literal["HighNoise", "LowNoise"] | None = None
    """Expert of Wan2.2 that the adapter is applied to. Default: all that it has weights for."""


class Sampling(ApiModel):
    """Sampling settings of a video. A setting left out comes from the next of request, effect,
    service and preset."""

    size: VideoSize | None = None
    """Size of the video, one of spec.sizes."""
    frames: Frames | None = None
    """Length of the video in frames, of the form 4n+1."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Frames per second of the video."""
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of denoising steps."""
    guidance: Guidance | None = None
    """Scale of classifier-free guidance. A value of 1 turns guidance off: a video takes half the
    time and follows the prompt less."""
    guidance_low: Guidance | None = None
    """Guidance scale of the low-noise expert of Wan2.2. Default: the value of guidance."""
    shift: Annotated[float, Field(gt=0, le=30)] | None = None
    """Time shift of flow matching. A higher value spends more of the steps at high noise levels."""
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None
    """Description of what the video should not show."""


class Effect(ApiModel):
    """Named style: adapters, a prompt around the user's, and sampling settings."""

    name: ServedName
    """Name of the effect, which requests give as `model`."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """Description for people, shown in /v1/models and the studio."""
    adapters: Annotated[list[AdapterUse], list_map("name"), Field(max_length=MAX_USES)] = Field(
        default=[]
    )
    """Adapters that the effect applies."""
    prompt: Annotated[
        str,
        Field(max_length=4000),
        Cel(
            f"!{_REST}.matches('{_PLACEHOLDER}')",
            "must have no placeholder but {prompt}",
            computed="'must have no placeholder but {prompt}; it has %s'.format("
            f"[{_REST}.find('{_PLACEHOLDER}')])",
        ),
    ] = "{prompt}"
    """Template of the prompt. `{prompt}` is replaced by the request's prompt, which may be empty.
    """
    sampling: Sampling = Sampling()
    """Sampling settings of the effect. Those left out come from spec.defaults."""
    preview: Annotated[
        str,
        Field(max_length=2048),
        PREVIEW,
        FILE,
    ] = ""
    """Address of a clip that shows the effect: s3:// in the service's bucket, or https:// anywhere.
    """
