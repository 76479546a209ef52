"""WanFineTune.spec: what is trained, how, and how it is evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, Schema, list_set, rule
from wan_operator.api.v1alpha1.common import MAX_INT32, ApiModel, rules
from wan_operator.api.v1alpha1.model import BY_EXPERT
from wan_operator.api.v1alpha1.syntax import S3Uri


class InitFrom(ApiModel):
    """Weights to start from. Exactly one of uri and of highNoise with lowNoise is set."""

    model_config = ConfigDict(json_schema_extra=rules(BY_EXPERT))

    uri: S3Uri | None = None
    """S3 address of the weights: the folder of an artifact such as that of an export, which is
    verified by its manifest; a .safetensors file; or shards by their .safetensors.index.json or its
    folder. docs/datasets.md has the tools whose names of tensors are read. For Wan2.2: an artifact
    with all experts that are trained, or a folder with the shards of each in high_noise_model and
    low_noise_model, or in transformer and transformer_2."""
    high_noise: S3Uri | None = None
    """S3 address of the weights of the high-noise expert of Wan2.2, in place of uri."""
    low_noise: S3Uri | None = None
    """S3 address of the weights of the low-noise expert of Wan2.2, in place of uri."""


def init_rules(method: str) -> tuple[Schema, Schema]:
    """Rules over the whole spec: what initFrom may name depends on whether the model has two
    experts."""
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


LAYER = (
    "^((blocks[.][0-9]+[.])?((self_attn|cross_attn)[.])?[qkvo]"
    "|(blocks[.][0-9]+[.])?(cross_attn[.])?[kv]_img"
    "|(blocks[.][0-9]+[.])?ffn[.][02]"
    "|(text|time)_embedding[.][02]|time_projection[.]1|(img_emb[.])?proj[.][13]|(head[.])?head)$"
)
"""Ends of the names of linear layers of Wan's transformers."""
_IS_LAYER = f"each.matches('{LAYER}')"
_LAYERS = (
    "q, k, v, o, ffn.0, ffn.2, k_img and v_img of Wan2.1, and longer names such as self_attn.q or "
    "blocks.0.ffn.2"
)


class Lora(ApiModel):
    """Settings of a LoRA: low-rank adapters are trained beside the frozen weights."""

    rank: Annotated[int, Field(ge=1, le=512)] = 32
    """Rank of the low-rank matrices. A higher rank can learn more, and takes more memory."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Numerator of the adapter's scale, which is alpha / rank. Default: the rank, for a scale of 1.
    """
    dropout_percent: Annotated[int, Field(ge=0, le=90)] = 0
    """Percentage of the adapter's inputs that training sets to zero."""
    target_modules: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]],
        list_set(),
        Field(min_length=1, max_length=16),
        Cel(
            f"self.all(each, {_IS_LAYER})",
            f"must end the names of linear layers: {_LAYERS}",
            computed=f"'these end the name of no linear layer: %s; there are {_LAYERS}'"
            f".format([self.filter(each, !{_IS_LAYER})])",
        ),
    ] = Field(default=["q", "k", "v", "o", "ffn.0", "ffn.2"])
    """Linear layers that get an adapter, by the end of their name."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-4
    """Learning rate of AdamW after the warm-up."""
    init_from: InitFrom | None = None
    """Adapter of the same rank to continue from. Default: a new adapter, which changes nothing at
    first."""


class Full(ApiModel):
    """Settings of full fine-tuning. rank and alpha are here only to be refused with a message."""

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
    """Learning rate of AdamW after the warm-up."""
    init_from: InitFrom | None = None
    """Full weights to continue from, or an adapter to merge into the base model's weights. Default:
    the base model's weights."""
    rank: Annotated[int, Field(ge=1, le=512)] | None = None
    """Rank of a LoRA, which full fine-tuning does not have: set method.lora.rank."""
    alpha: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Scale of a LoRA, which full fine-tuning does not have: set method.lora.alpha."""


class Method(ApiModel):
    """Training method. Exactly one of lora and full is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.lora) != has(self.full)",
                "set exactly one of lora and full; lora: {} takes the defaults",
            ),
        )
    )

    lora: Lora | None = None
    """Settings of a LoRA: low-rank adapters are trained beside the frozen weights."""
    full: Full | None = None
    """Settings of full fine-tuning: all weights are trained. It can learn more than an adapter, and
    takes 16 bytes of GPU memory per parameter before activations."""


class Optimizer(ApiModel):
    """Settings of the optimizer, AdamW."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay rate of the running mean of the gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay rate of the running mean of the squared gradients."""
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    """Constant added to the divisor for numerical stability."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Decoupled weight decay: each step shrinks the weights by this factor times the learning rate.
    """


class Schedule(ApiModel):
    type: Literal["Constant", "Cosine"] = "Constant"
    """Learning rate after the warm-up. Constant keeps it; Cosine lowers it to zero at the last
    step."""
    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Optimizer steps over which the learning rate rises from zero: no more than the run has."""


class Ema(ApiModel):
    """Exponential moving average of the weights over optimizer steps."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the mean per optimizer step. Early steps use less, (1 + step) / (10 + step), so that
    a short run's mean is not dominated by its start."""


class Training(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.steps) && has(self.epochs))",
                "set steps or epochs, not both",
                ".steps",
                reason="FieldValueForbidden",
            ),
            rule(
                "!has(self.steps) || self.schedule.warmupSteps <= self.steps",
                "warmupSteps must not be more than steps: the learning rate would never be reached",
                ".schedule.warmupSteps",
                computed="'%d warm-up steps are more than the %d steps of the run: the learning "
                "rate would never be reached'.format([self.schedule.warmupSteps, self.steps])",
            ),
        )
    )

    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Number of optimizer steps. Default: computed from epochs, datasetRepeat, the batch and the
    number of clips."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of epochs, in place of steps. Each clip is seen datasetRepeat times in an epoch.
    Default: 2."""
    dataset_repeat: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of times that each clip is seen in one epoch."""
    batch_size: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of clips in one batch."""
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of batches whose gradients are accumulated for one optimizer step. Several GPUs share
    its clips."""
    caption_dropout_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Percentage of the clips that are trained with an empty caption, so that classifier-free
    guidance keeps working."""
    ema: Ema | None = None
    """Exponential moving average of a LoRA's weights over optimizer steps. If it is set, the mean
    is probed and exported in place of the weights. Default: none."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    """Learning rate over the optimizer steps."""
    weights: Literal["Last", "Best"] = "Last"
    """Weights to export. Last: those of the last step. Best: those with the lowest mean loss of the
    held-out probes, which are uploaded at each new lowest loss."""
    max_gradient_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Largest norm of a gradient. Longer gradients are scaled down to it."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Random seed of the adapter's initial weights, the order of clips, the noise and the probes.
    """
    deterministic: bool = False
    """Whether to train only with GPU kernels whose results repeat to the bit: equal runs over the
    same latents then end in equal weights, interrupted ones too. This is slower:
    at 14B a step takes about 12 % more time under KeepAttention and Offload, which then need
    up to 12 GiB more of the GPU, and 64 % under Full. On CPUs results always repeat."""
    timestep_sampling: Literal["Uniform"] = "Uniform"
    """Distribution of the noise levels that are trained. Uniform draws from the shifted training
    grid of the expert."""
    loss_weighting: Literal["Uniform", "Bell"] = "Uniform"
    """Weight of the loss over the noise levels of an expert, with a mean of 1. Uniform: equal
    weights. Bell: the weights of DiffSynth, a bell curve that is highest at the middle of all noise
    levels and zero at the highest one."""
    base_precision: Literal["BF16", "FP8"] = "BF16"
    """Precision of the frozen base weights beside a LoRA. FP8 keeps the linear layers of all
    transformer blocks but the first and the last in 8 bits, which takes half of their memory and
    rounds their weights by 2.6 %. The LoRA, its gradients and all arithmetic stay as with BF16, and
    weights are rounded on the GPU: the model is stored and fetched as before."""
    gradient_checkpointing: Literal["Auto", "None", "Full", "KeepAttention", "Offload"] = "Auto"
    """Activations that the forward pass keeps for the backward pass. None keeps all. Full keeps the
    input of each transformer block and computes the rest again: slower, with far less memory.
    KeepAttention also keeps what each self-attention found, on the GPU as far as it fits and else
    in host memory, so that it is not computed again. Offload keeps both in host memory. These two
    train a LoRA without dropout, in compiled blocks. Auto is None where the planner is sure that
    all activations fit; else, on an H100 or H200, KeepAttention or, where only that fits, Offload;
    else Full. status.effective.gradientCheckpointing shows the choice."""
    tiled_vae: bool = False
    """Whether clips are encoded in tiles, which takes less GPU memory and more time."""
    attention: Annotated[
        Literal["Auto", "SDPA", "Sage"],
        Cel(
            "self != 'Sage'",
            "SageAttention has no backward pass, so the q, k and v adapters would get no gradient: "
            "use Auto",
        ),
    ] = "Auto"
    """Attention kernel. Auto takes the fastest that has an exact backward pass on the GPU; SDPA is
    PyTorch's own. Sage has no backward pass and is refused."""


class Checkpoint(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Optimizer steps between checkpoints. A run that is suspended writes one more. Default: 100;
    for method.full, as often as costs 3 % of the time by the planner's estimate.
    status.effective.checkpointEverySteps shows the value in use."""
    keep_last: Annotated[int, Field(ge=1, le=100)] = 2
    """Number of newest checkpoints that are kept. All are deleted once the trained weights are
    committed and verified."""
    retention_hours: Annotated[int, Field(ge=0, le=87_600)] = 168
    """Hours after which the checkpoints of a run that failed, or was deleted before its end, are
    deleted. Nothing resumes from them; exported weights stay. An edit of a failed run counts them
    anew."""


class Validation(ApiModel):
    every_steps: Annotated[int, Field(ge=1, le=100_000)] = 50
    """Optimizer steps between probes, which measure the loss on held-out clips at fixed noise and
    noise levels. A run whose probes rise to three times their lowest loss has diverged and fails.
    """
    preview_every_steps: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Optimizer steps between previews: short videos of one held-out clip by the current weights,
    written beside the TensorBoard event files. Each takes as long as rendering a video. Default: no
    previews."""
    samples: Annotated[int, Field(ge=0, le=16)] = 1
    """Number of held-out first frames that are rendered with the base and the trained weights after
    training. With 0 none is rendered."""
    inference_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of denoising steps of previews and samples. Default: the preset's."""
    seed: Annotated[int, Field(ge=0, le=MAX_INT32)] = 0
    """Random seed of the noise of previews and samples. The noise of the probes comes from
    training.seed."""


class Output(ApiModel):
    formats: (
        Annotated[
            list[Literal["DiffSynth", "ComfyUI", "Diffusers"]],
            list_set(),
            Field(min_length=1, max_length=3),
            Cel(
                "self.exists(format, format == 'DiffSynth')",
                "must include DiffSynth: the samples are rendered from it",
            ),
        ]
        | None
    ) = None
    """Tools that the weights are exported for. Each gets files of its own, which are read back as
    the tool reads them and compared with the trained weights before the run is complete. Default:
    all three for an adapter, since a finished run cannot be exported again; DiffSynth for full
    weights, which are large."""
