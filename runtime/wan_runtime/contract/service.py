"""The contract of a `WanInferenceService` with its pods.

The operator writes a `ServiceSpec` into a ConfigMap mounted at `/etc/wan/service.json`; gateway and
workers read it. Pydantic only: no torch.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from wan_runtime.contract.base import Contract
from wan_runtime.contract.gpu import Gpu
from wan_runtime.contract.sampling import (
    DEFAULT_PROFILE,
    LOSSY_KERNELS,
    AttentionKernel,
    Profile,
    SamplingSpec,
    Size,
    StepCachePolicy,
    check_attention,
)
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.stored import ManifestRef, ModelSpec, StoreSpec

__all__ = [
    "DEFAULT_PROFILE",
    "KEYS_FOLDER",
    "ONE",
    "SERVICE_FILE",
    "UNWRITTEN_STEP_CACHE",
    "AdapterSpec",
    "AdapterUse",
    "Distilled",
    "EffectSpec",
    "KeyLimit",
    "LimitSpec",
    "ModerationSpec",
    "ParallelSpec",
    "Profile",
    "ResultSpec",
    "SamplingSpec",
    "ServiceSpec",
    "Size",
    "StepCachePolicy",
    "layout_of",
    "prefix_of",
]

SERVICE_FILE = "/etc/wan/service.json"
UNWRITTEN_STEP_CACHE: StepCachePolicy = "EasyCache"
"""Rule of a service file that names none: the default of releases before `Spaced`, which they did
not write. Changed, it would give all their workers another revision."""
KEYS_FOLDER = "/etc/wan/keys"
"""Mounted Secret: a file an API key, its name the key's name, its content the key."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Distilled(Contract):
    """Schedule that an adapter was distilled for: Euler steps without guidance."""

    steps: Annotated[int, Field(ge=1, le=50)]
    shift: Annotated[float, Field(gt=0, le=30)]


class AdapterSpec(Contract):
    """A LoRA that requests may name: the pair of files for the two experts of Wan2.2, or one."""

    name: Name
    artifact: ManifestRef | None = None
    """What a fine-tune exported: its certified DiffSynth files, by expert."""
    files: dict[Expert, str] = Field(default_factory=dict)
    """s3:// URIs of single files, for adapters made elsewhere. Either these or `artifact`."""
    strength: float = 1.0
    trigger: str = ""
    """Words that its captions had; shown in /v1/models."""
    distilled: Distilled | None = None
    """Schedule of all videos with the adapter. None: it leaves the schedule alone."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.artifact is None) == (not self.files):
            raise ValueError(f"adapter {self.name} needs either artifact or files")
        return self


class AdapterUse(Contract):
    """An adapter at work in one video."""

    name: Name
    strength: Annotated[float, Field(ge=-4, le=4)] | None = None
    """None: the adapter's own."""
    expert: Expert | None = None
    """Only on this expert's transformer. None: on all that it has weights for."""


class EffectSpec(Contract):
    """The product's unit for app teams: a photo and this name make a video."""

    name: Name
    adapters: tuple[AdapterUse, ...] = ()
    prompt: Annotated[str, Field(max_length=4000)] = "{prompt}"
    """Template: `{prompt}` is replaced by the request's prompt, which may be empty."""
    sampling: SamplingSpec = SamplingSpec()
    preview: str = ""
    """Address of an example clip: an s3:// URI in the service's bucket, which the gateway hands
    out, or a URL, which the studio links to."""
    description: Annotated[str, Field(max_length=1000)] = ""


class KeyLimit(Contract):
    """What one API key may take."""

    queued: Annotated[int, Field(ge=1)] | None = None
    """Jobs that wait or run. None: only the queue's own limit."""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Limit on the requests per minute that create a video, counted by each gateway."""
    priority: int = 0
    """Priority of the key's jobs; higher goes first."""


class LimitSpec(Contract):
    queue_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Predicted seconds of work that may wait; a request beyond them gets 429."""
    frames: int = 121
    prompt_characters: int = 2000
    upload_bytes: int = 20 * 2**20
    image_pixels: int = 40_000_000
    """Limit on the pixels of an uploaded picture, before it is cropped."""
    url_references: bool = False
    """Whether a request may name its first frame by a URL."""
    per_key: KeyLimit = KeyLimit()
    keys: dict[str, KeyLimit] = Field(default_factory=dict)
    """For keys that have limits of their own, by the key's name."""

    def of(self, owner: str) -> KeyLimit:
        """Limits of one key; `per_key` if it has none of its own."""
        return self.keys.get(owner, self.per_key)


class ResultSpec(Contract):
    retention_seconds: Annotated[int, Field(ge=60)] = 7 * 86400
    """After which a video and its job are deleted; photos go with the end of the job."""
    presigned_seconds: Annotated[int, Field(ge=60, le=604800)] = 3600
    proxied: bool = True
    """The gateway hands out the bytes itself. False: it redirects to a presigned URL, for stores
    that clients can reach."""


class ModerationSpec(Contract):
    """An HTTP service that may refuse."""

    url: str
    """POSTed {stage: Input|Output, id, model, prompt, images}, answers {allowed, reason}. `images`
    are base64: the first frame as PNG, or frames of the video as JPEG, at equal times."""
    timeout_seconds: float = 10.0
    on_error: Annotated[str, Field(pattern="^(Refuse|Allow)$")] = "Refuse"


class ParallelSpec(Contract):
    """Library by which the ranks of a worker share the tokens of a video."""

    backend: Literal["xDiT"] = "xDiT"
    ring: Annotated[int, Field(ge=1, le=4)] = 1
    """Number of ranks among which keys and values go round (ring attention). 1: none do, and the
    ranks share the attention heads alone (Ulysses)."""


ONE = "one GPU"
"""Layout of a single rank."""


def layout_of(gpus: int, parallel: ParallelSpec | None) -> str:
    """Division of a video among the GPUs of a worker, in words, with the number of GPUs of each
    kind: branches of guidance (CFG), shares of the attention heads (Ulysses), parts of the keys
    (ring)."""
    if gpus == 1:
        return ONE
    if parallel is None:
        return f"Native: CFG 2 x Ulysses {gpus // 2}"
    ulysses = gpus // 2 // parallel.ring
    return f"{parallel.backend}: CFG 2 x Ulysses {ulysses} x ring {parallel.ring}"


class ServiceSpec(Contract):
    namespace: str
    name: str
    uid: str
    cluster: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")] | None = None
    """Id of its cluster, where a copy of the cluster may have services of the same uids."""
    model: ModelSpec
    imported: ManifestRef | None = None
    """What the import of the model committed. None: a Tiny preset, or a folder taken as it is."""
    weights: ManifestRef | None = None
    """What a fine-tune with the method full exported: its transformers, of one expert or both,
    stand in place of the base model's."""
    profile: Profile | None = None
    """None: `DEFAULT_PROFILE`."""
    step_cache: StepCachePolicy | None = None
    """None: `UNWRITTEN_STEP_CACHE`."""
    attention: AttentionKernel | None = None
    """Kernel of the attention. None: the fastest that is right."""
    parallel: ParallelSpec | None = None
    """None: the runtime's own exchange of tokens."""
    store: StoreSpec
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]
    """Sizes that requests may ask for, warmed up before a worker is ready."""
    defaults: SamplingSpec = SamplingSpec()
    adapters: tuple[AdapterSpec, ...] = ()
    effects: tuple[EffectSpec, ...] = ()
    limits: LimitSpec = LimitSpec()
    results: ResultSpec = ResultSpec()
    moderation: ModerationSpec | None = None
    public_url: str = ""
    """URL of the gateway, as in the resource's status. No answer has it."""
    webhook_private_hosts: tuple[str, ...] | None = None
    """Host names, addresses and CIDRs that webhooks are sent to though they are private. None:
    none."""
    studio: bool = True
    """Serve the page at /studio/ that makes videos in a browser."""
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Price of a worker per hour, in any currency, from which estimates compute the cost of a
    video. None: estimates have no cost."""
    others: tuple[ServiceSpec, ...] | None = None
    """The service as workers of other revisions at work have it, for gateways: a request must be
    one that these can render, too. None: all workers are alike."""
    gpus: Annotated[int, Field(ge=1)] | None = None
    """Number of GPUs of a worker, by which gateways predict. None: one; workers count their own."""
    gpu: Gpu | None = None
    """Type of these. None: not known, and predictions are those of the measured one."""

    @field_validator("webhook_private_hosts")
    @classmethod
    def _ranges(cls, hosts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for each in hosts or ():
            if "/" in each:
                try:
                    ip_network(each, strict=False)
                except ValueError:
                    raise ValueError(f"{each} is no CIDR such as 10.20.0.0/16") from None
        return hosts

    @property
    def id(self) -> str:
        """The service's uid, after the id of its cluster if it has one."""
        return "/".join(filter(None, (self.cluster, self.uid)))

    @property
    def policy(self) -> StepCachePolicy:
        """Rule by which Balanced and Fast leave out steps."""
        return self.step_cache or UNWRITTEN_STEP_CACHE

    @property
    def prefix(self) -> str:
        """Prefix of all keys of this service in the bucket, without slashes at its ends."""
        return prefix_of(self.store, self.cluster, self.namespace, self.name, self.uid)

    def adapter(self, name: str) -> AdapterSpec | None:
        """Adapter of this name; None if there is none."""
        return next((each for each in self.adapters if each.name == name), None)

    def effect(self, name: str) -> EffectSpec | None:
        """Effect of this name; None if there is none."""
        return next((each for each in self.effects if each.name == name), None)

    @model_validator(mode="after")
    def _attention_is_of_the_profile(self) -> Self:
        named = self.attention
        check_attention(named, self.profile or DEFAULT_PROFILE)
        if named in LOSSY_KERNELS and self.parallel is not None and self.parallel.ring > 1:
            raise ValueError(f"attention {named} is of 8 bits: take a ring of 1")
        return self

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        names = [each.name for each in self.adapters] + [each.name for each in self.effects]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"adapters and effects share the name {', '.join(sorted(twice))}")
        for effect in self.effects:
            for use in effect.adapters:
                if self.adapter(use.name) is None:
                    raise ValueError(f"effect {effect.name} uses adapter {use.name}: not listed")
        return self


def prefix_of(store: StoreSpec, cluster: str | None, namespace: str, name: str, uid: str) -> str:
    """`ServiceSpec.prefix` of a service of which no more is known."""
    return "/".join(filter(None, (store.prefix, cluster, namespace, name, uid[:8])))
