"""WanFineTune.spec: what is trained, how, and how well it went."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, list_set, rule
from wan_operator.api.v1alpha1.common import MAX_INT32, ApiModel, S3Uri, rules

BY_EXPERT = rule(
    "has(self.uri) != (has(self.highNoise) || has(self.lowNoise))",
    "set uri, or one or both of highNoise and lowNoise",
)
"""Of weights: one address for all, or one for each expert of Wan2.2."""


class InitFrom(ApiModel):
    """Weights to start from: the folder of an artifact of ours, such as that of an export, whose
    manifest is verified; or a .safetensors file, or shards with their .safetensors.index.json (the
    index or its folder), under the names of DiffSynth, ComfyUI or Diffusers."""

    model_config = ConfigDict(json_schema_extra=rules(BY_EXPERT))

    uri: S3Uri | None = None
    """For Wan2.1; for Wan2.2 an artifact with all experts that are trained, or a folder with the
    shards of each in high_noise_model and low_noise_model, or transformer and transformer_2."""
    high_noise: S3Uri | None = None
    """For this expert of Wan2.2 alone."""
    low_noise: S3Uri | None = None
    """For this expert of Wan2.2 alone."""


def init_rules(method: str) -> tuple[Schema, Schema]:
    """Of the whole spec: what initFrom may name depends on whether the model is a pair."""
    given = f"!has(self.method.{method}) || !has(self.method.{method}.initFrom)"
    source = f"self.method.{method}.initFrom"
    where = f".method.{method}.initFrom"
    return (
        rule(
            f"{given} || self.model.preset.startsWith('Wan2.2') || has({source}.uri)",
            "only Wan2.2 has experts: set uri",
            where,
            reason="FieldValueForbidden",
        ),
        rule(
            f"{given} || !self.model.preset.startsWith('Wan2.2') || !has({source}.uri)"
            f" || !{source}.uri.matches('[.]safetensors([.]index[.]json)?$')",
            "one file holds one expert: set highNoise and lowNoise",
            f"{where}.uri",
            reason="FieldValueForbidden",
        ),
    )


class Lora(ApiModel):
    rank: Annotated[int, Field(ge=1, le=512)] = 32
    """Of the low-rank matrices: more can learn more, and takes more memory."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """The adapter is scaled by alpha / rank. Default: the rank."""
    dropout_percent: Annotated[int, Field(ge=0, le=90)] = 0
    """Share of adapter inputs zeroed while training."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]],
        list_set(),
        Field(min_length=1, max_length=16),
    ] = Field(default=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    """Linear layers that get an adapter, by the end of their name."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Of AdamW, after the warm-up."""
    init_from: InitFrom | None = None
    """An adapter of the same rank to go on from. Default: an adapter that changes nothing."""


class Full(ApiModel):
    """All weights. Fields that belong to LoRA are named here only to be refused where they are."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.rank)",
                "rank belongs to method.lora: full fine-tuning has none",
                ".rank",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.alpha)",
                "alpha belongs to method.lora: full fine-tuning has none",
                ".alpha",
                reason="FieldValueForbidden",
            ),
        )
    )

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-5
    """Of AdamW, after the warm-up."""
    init_from: InitFrom | None = None
    """Full weights to go on from, or an adapter to merge into the model's. Default: the model's."""
    rank: Annotated[int, Field(ge=1, le=512)] | None = None
    """Not allowed here."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Not allowed here."""


class Method(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("has(self.lora) != has(self.full)", "set exactly one of lora and full"),
        )
    )

    lora: Lora | None = None
    """Low-rank adapters beside the frozen weights."""
    full: Full | None = None
    """All weights: learns more than an adapter can hold, and takes 16 bytes of GPU memory a
    parameter before activations."""


class Optimizer(ApiModel):
    """AdamW."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the mean of their squares."""
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    """Added to the divisor."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Pull of the weights towards zero, times the learning rate."""


class Schedule(ApiModel):
    type: Literal["Constant", "Cosine"] = "Constant"
    """Of the learning rate after the warm-up; Cosine falls to zero at the end."""
    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Steps over which the learning rate rises from zero."""


class Ema(ApiModel):
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Weight of what was before, at each step; smaller at first, so that a short run's mean is not
    its start."""


class Training(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.steps) && has(self.epochs))",
                "set steps or epochs, not both",
                ".steps",
                reason="FieldValueForbidden",
            ),
        )
    )

    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimizer steps. Default: from epochs, datasetRepeat and the number of clips."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Default 2."""
    dataset_repeat: Annotated[int, Field(ge=1, le=1000)] = 10
    """Times each clip is seen in one epoch."""
    batch_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Clips a GPU takes at once."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches summed for one optimizer step."""
    caption_dropout_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of clips that are seen with an empty caption: keeps guidance working."""
    ema: Ema | None = None
    """Keeps the mean of a LoRA's weights over steps, probes it and exports it in their place.
    Default: none."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    """How the learning rate runs."""
    weights: Literal["Last", "Best"] = "Last"
    """Which are exported: those of the last step, or those with the lowest mean loss of the
    held-out probes, which costs an upload of the weights at each new best."""
    max_gradient_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Longer gradients are scaled down to it."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Of the adapter, the order of clips, the noise and the probes: equal seeds train alike."""
    deterministic: bool = False
    """Train with GPU kernels that repeat to the bit: equal runs over the same latents end in equal
    weights, interrupted ones too. Slower: at 14B and 25 frames a step takes 64 % more time. On CPUs
    training repeats without it."""
    timestep_sampling: Literal["Uniform"] = "Uniform"
    """Noise levels are drawn uniformly from the shifted training grid of the expert."""
    loss_weighting: Literal["Uniform", "Bell"] = "Uniform"
    """Weight over noise levels within an expert. Bell is DiffSynth's; it all but silences the
    high-noise expert."""
    base_precision: Annotated[
        Literal["BF16", "FP8"],
        Cel("self != 'FP8'", "FP8 base weights are not available in this release: use BF16"),
    ] = "BF16"
    """Of the frozen weights."""
    gradient_checkpointing: Annotated[
        Literal["Auto", "None", "Full", "KeepAttention", "Offload"],
        Cel(
            "self in ['Auto', 'None', 'Full']",
            "KeepAttention and Offload are not available in this release: use Auto, Full or None",
        ),
    ] = "Full"
    """Full keeps one activation a block and computes the rest again: slower, far less memory. Auto
    is None where the planner is sure that all activations fit, else Full; see
    status.effective.gradientCheckpointing."""
    tiled_vae: bool = False
    """Encode clips in tiles: less GPU memory, slower."""
    attention: Annotated[
        Literal["Auto", "SDPA", "Sage"],
        Cel(
            "self != 'Sage'",
            "SageAttention has no backward pass: q, k and v adapters would get no gradient "
            "and nothing would say so. Use Auto",
        ),
    ] = "Auto"
    """Auto takes the fastest that has an exact backward pass on the GPU."""


class Parallelism(ApiModel):
    gpus_per_node: Annotated[
        int,
        Field(ge=1, le=8),
        Cel("self == 1", "training on several GPUs is not available in this release: use 1"),
    ] = 1
    """GPUs of each node."""
    nodes: Annotated[
        int,
        Field(ge=1, le=64),
        Cel("self == 1", "training on several nodes is not available in this release: use 1"),
    ] = 1
    """Nodes that train together."""
    experts: Literal["Sequential", "Parallel"] = "Sequential"
    """Whether the two transformers of Wan2.2 train one after the other, or at the same time in a
    Job each, on GPUs of their own: twice the GPUs, half the time."""


class Checkpoint(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Optimizer steps between checkpoints; a suspended run writes one besides. Default: 100; for
    method.full, as often as costs 3 % of the time by the planner's estimate. See
    status.effective.checkpointEverySteps."""
    keep_last: Annotated[int, Field(ge=1, le=100)] = 2
    """Older ones are deleted; all of them once the trained weights are committed and verified."""


class Validation(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Steps between evaluations of the loss at fixed (clip, noise, level) probes on held-out
    clips. A run whose probes rise to three times their lowest loss has diverged and fails."""
    preview_every_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Steps between short videos of one held-out clip by the weights as they are, written beside
    the event files. Each takes as long as sampling does. Default: none."""
    samples: Annotated[int, Field(ge=0, le=16)] = 1
    """Held-out first frames rendered with the base and the trained weights after training; 0
    renders none."""
    inference_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Default: the preset's."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Of the noise of previews and samples; that of the probes comes from training.seed."""


class Output(ApiModel):
    formats: (
        Annotated[
            list[Literal["DiffSynth", "ComfyUI", "Diffusers"]],
            list_set(),
            Field(min_length=1, max_length=3),
            Cel(
                "self.exists(format, format == 'DiffSynth')",
                "must hold DiffSynth: the samples are rendered from it",
            ),
        ]
        | None
    ) = None
    """The tools that shall load the weights; each gets its own files, which are read back as the
    tool does and compared before the run is complete. Default: all three for an adapter, since a
    finished run cannot be exported again; DiffSynth for full weights, which are large."""
