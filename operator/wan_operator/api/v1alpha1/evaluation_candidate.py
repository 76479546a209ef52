"""WanEvaluation.spec: the candidates, and the clips that they are compared on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import rule, syntax
from wan_operator.api.v1alpha1.common import ApiModel, DataKey, LocalObjectReference, rules
from wan_operator.api.v1alpha1.dataset import COLUMN_RULES, Columns
from wan_operator.api.v1alpha1.inference_acceleration import Attention, attention_rules
from wan_operator.api.v1alpha1.model import AdapterFiles, Frames, Model, VideoSize
from wan_operator.api.v1alpha1.syntax import ObjectName, S3Uri
from wan_runtime.contract.evaluation import CANDIDATE_LIMIT, REFERENCE, WINNER

MAX_CANDIDATES = 16

CandidateName = Annotated[
    str,
    Field(min_length=1, max_length=CANDIDATE_LIMIT),
    syntax(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be lower-case letters, digits and '-', and begin and end with a letter or digit",
    ),
    syntax(
        f"!(self in ['{REFERENCE}', '{WINNER}']) && !self.matches('-part[0-9]+$')",
        f"must not be '{REFERENCE}', which stands for the recorded clips, nor '{WINNER}', nor end "
        "like a part of a step, as in '-part1'",
    ),
]


class CandidateAdapter(AdapterFiles):
    """LoRA files made elsewhere. docs/datasets.md has the tools whose names of tensors are read."""

    strength: Annotated[float, Field(ge=-4, le=4)] = 1.0
    """Strength of the adapter. A value of 1 is the strength as trained."""


class CandidateAcceleration(ApiModel):
    """Trade of speed for equal bits and quality."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.stepCache) || self.profile == 'Fast'",
                "stepCache is chosen for the profile Fast: set profile: Fast, or leave it out",
                ".stepCache",
                reason="FieldValueForbidden",
            ),
            *attention_rules("self", ".attention"),
        )
    )

    profile: Literal["Exact", "Lossless", "Balanced", "Fast"] = "Lossless"
    """Arithmetic of the transformers, as in a service's spec.acceleration.profile. Two candidates
    that differ in it alone measure what a profile costs in quality."""
    step_cache: Literal["Spaced", "EasyCache", "TeaCache"] | None = None
    """Rule by which Balanced and Fast leave out steps, as in a service's
    spec.acceleration.stepCache. TeaCache is for Wan2.1 alone. Default: Spaced."""
    attention: Attention = "Auto"
    """Attention kernel, as in a service's spec.acceleration.attention. Where it cannot run, or is
    wrong, the candidate has no videos."""


class SecretKey(ApiModel):
    name: ObjectName
    """Name of a Secret in the same namespace."""
    key: DataKey
    """Key in the Secret's data."""


class CandidateService(ApiModel):
    """Running service, which renders through its own API."""

    name: ObjectName
    """Name of a WanInferenceService in the same namespace."""
    model: Annotated[str, Field(min_length=1, max_length=63)]
    """Name that requests give as `model`: an effect, or the service by its own name or preset."""
    key_secret_ref: SecretKey
    """API key of the service: a key of the Secret in its gateway.keysSecretRef."""


class Candidate(ApiModel):
    """Way to make a video from a first frame and a prompt. Exactly one of model, fineTuneRef,
    serviceRef and videos is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.model), has(self.fineTuneRef), has(self.serviceRef), has(self.videos)]"
                ".filter(each, each).size() == 1",
                "set exactly one of model, fineTuneRef, serviceRef and videos",
            ),
            rule(
                "!has(self.adapter) || has(self.model)",
                "an adapter is put on a model: set model beside it",
                ".adapter",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.adapter) || !has(self.model) || has(self.adapter.uri) || "
                "self.model.preset.startsWith('Wan2.2')",
                "only Wan2.2 has experts: set adapter.uri",
                ".adapter",
            ),
            rule(
                "!has(self.acceleration) || has(self.model) || has(self.fineTuneRef)",
                "applies to what is rendered here: leave it out for services and ready videos",
                ".acceleration",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.acceleration) || !has(self.acceleration.stepCache) || "
                "self.acceleration.stepCache != 'TeaCache' || !has(self.model) || "
                "self.model.preset.startsWith('Wan2.1')",
                "TeaCache was never fitted for Wan2.2: take EasyCache",
                ".acceleration.stepCache",
            ),
        )
    )

    name: CandidateName
    """Name of the candidate in the report, at most 16 characters. Raters do not see it."""
    model: Model | None = None
    """Base model, alone or with `adapter` on top."""
    adapter: CandidateAdapter | None = None
    """LoRA files that are put on the base model of `model`."""
    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune whose exported weights are put on the base model that they were trained from. The
    evaluation waits until they are exported."""
    service_ref: CandidateService | None = None
    """Running service, which renders the videos with its own settings, but for size, frames, seed
    and what sampling has."""
    videos: S3Uri | None = None
    """S3 folder with a video for each clip, made elsewhere: an .mp4 with the name of the recorded
    clip's file, where no other clip has that name. A clip without one counts as a failure of the
    candidate."""
    acceleration: CandidateAcceleration | None = None
    """Arithmetic that the candidate is rendered with. Default: the profile Lossless."""


class ClipsDataset(ApiModel):
    """Dataset of which all clips may be used, in the layouts that a WanFineTune reads."""

    model_config = ConfigDict(json_schema_extra=rules(*COLUMN_RULES))

    source: S3Uri
    """S3 folder of the dataset. All paths in the dataset are relative to it."""
    format: Literal["DiffSynth", "Musubi", "Folder", "WebDataset"] = "DiffSynth"
    """Layout of the dataset. DiffSynth: metadata.csv, .json or .jsonl. Musubi: one .toml with its
    JSON lines files or folders. Folder: clips, each with its caption in a .txt file beside it.
    WebDataset: .tar shards."""
    columns: Columns = Columns()
    """Names of the columns in the dataset's metadata."""
    rejected_clips: Literal["Fail", "Skip"] = "Fail"
    """Effect of a clip that fails its checks. Fail: the run stops and names the clip. Skip: the
    clip is left out and counted."""


class Clips(ApiModel):
    """Clips that candidates are compared on. Exactly one of fineTuneRef and dataset is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.fineTuneRef) != has(self.dataset)",
                "set exactly one of fineTuneRef and dataset",
            ),
        )
    )

    fine_tune_ref: LocalObjectReference | None = None
    """WanFineTune whose held-out clips are used, at the size and length that it trains with. The
    evaluation waits until it has checked its dataset."""
    dataset: ClipsDataset | None = None
    """Dataset of its own."""
    count: Annotated[int, Field(ge=1, le=1000)] = 16
    """Largest number of clips, one of each recording first. Fewer than decision.minimumClips give
    no winner."""


class CandidateSampling(ApiModel):
    """Sampling settings of all candidates. Steps, guidance, shift and negative prompt that are left
    out come from each candidate's preset."""

    size: VideoSize | None = None
    """Size of all videos. Default: for held-out clips of a fine-tune, the size that each clip is
    trained at; else that of the first candidate's preset."""
    frames: Frames | None = None
    """Length of all videos in frames, of the form 4n+1. Default: as for the size."""
    fps: Annotated[int, Field(ge=1, le=60)] | None = None
    """Frames per second of all videos. Default: as for the size."""
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of denoising steps."""
    guidance: Annotated[float, Field(ge=1, le=30)] | None = None
    """Scale of classifier-free guidance. A value of 1 turns guidance off."""
    guidance_low: Annotated[float, Field(ge=1, le=30)] | None = None
    """Guidance scale of the low-noise expert of Wan2.2. Default: the value of guidance."""
    shift: Annotated[float, Field(gt=0, le=30)] | None = None
    """Time shift of flow matching. A higher value spends more of the steps at high noise levels."""
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None
    """Description of what the videos should not show."""
