"""The job file of each step of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from wan_operator.api.v1alpha1.finetune import Effective, WanFineTuneSpec
from wan_operator.reconcile.finetune.plan import (
    FineTuneStep,
    buckets_of,
    experts_of,
    trains_jointly,
    windows_of,
)
from wan_operator.reconcile.finetune.spread import parallelism_of
from wan_operator.reconcile.store import model_spec, store_spec
from wan_operator.resources.labels import Owner
from wan_runtime.contract.dataset import Columns, DatasetSpec
from wan_runtime.contract.finetune import Dialect, FineTuneWork, SampleSpec
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.model_import import ImportWork
from wan_runtime.contract.steps import Expert, Step
from wan_runtime.contract.training import (
    Checkpointing,
    FullSpec,
    LoraSpec,
    OptimizerSpec,
    TrainingSpec,
)
from wan_runtime.presets import PRESETS


def job_spec(
    owner: Owner,
    spec: WanFineTuneSpec,
    effective: Effective,
    planned: FineTuneStep,
    inputs: Mapping[str, ManifestRef],
    with_ca: bool,
) -> JobSpec:
    """The job file of one step; the same for all its attempts."""
    is_import = planned.step in ImportWork.steps
    return JobSpec(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        step=planned.step,
        expert=planned.expert,
        shard=planned.shard,
        model=model_spec(spec.model),
        store=store_spec(effective.store, with_ca),
        work=ImportWork() if is_import else work_of(spec, effective, planned),
        inputs=dict(inputs),
        image=effective.image,
    )


def work_of(spec: WanFineTuneSpec, effective: Effective, planned: FineTuneStep) -> FineTuneWork:
    """The work of a step but the import. The first step verifies what the trainings start from."""
    both = planned.trains and trains_jointly(spec)
    work = finetune_work(spec, effective, planned.expert)
    named = {expert: initial_weights(spec, expert) for expert in experts_of(spec)}
    starts = {expert: uri for expert, uri in named.items() if uri is not None}
    if not (planned.step is Step.PREPARE or both) or not starts:
        return work
    return work.model_copy(update={"starts": starts})


def checkpointing_of(effective: Effective) -> Checkpointing:
    """The policy in use. A status that another release wrote may hold any word."""
    known = get_args(Checkpointing)
    chosen = effective.gradient_checkpointing
    return cast(Checkpointing, chosen) if chosen in known else "Full"


def finetune_work(spec: WanFineTuneSpec, effective: Effective, expert: Expert) -> FineTuneWork:
    """The work of all steps but the import, for one of the experts."""
    dataset, training, preset = spec.dataset, spec.training, PRESETS[spec.model.preset]
    defaults = TrainingSpec()
    return FineTuneWork(
        dataset=DatasetSpec(
            source=dataset.source,
            format=dataset.format,
            columns=Columns(**dataset.columns.model_dump()),
            buckets=buckets_of(spec),
            fps=effective.fps,
            window=dataset.window,
            windows_per_clip=windows_of(dataset),
            train_fraction=dataset.split.train_percent / 100,
            split_seed=dataset.split.seed,
            rejected_clips=dataset.rejected_clips,
        ),
        lora=lora_spec(spec, expert),
        full=full_spec(spec, expert),
        training=TrainingSpec(
            steps=training.steps,
            epochs=training.epochs or defaults.epochs,
            dataset_repeat=training.dataset_repeat,
            batch_size=training.batch_size,
            gradient_accumulation=training.gradient_accumulation,
            parallelism=parallelism_of(effective),
            caption_dropout=training.caption_dropout_percent / 100,
            ema_decay=training.ema.decay if training.ema is not None else None,
            optimizer=OptimizerSpec(**training.optimizer.model_dump()),
            schedule=training.schedule.type,
            warmup_steps=training.schedule.warmup_steps,
            max_gradient_norm=training.max_gradient_norm,
            seed=training.seed,
            deterministic=training.deterministic,
            loss_weighting=training.loss_weighting,
            base_precision=training.base_precision,
            gradient_checkpointing=checkpointing_of(effective),
            tiled_vae=training.tiled_vae,
            attention="SDPA" if training.attention == "SDPA" else "Auto",
            checkpoint_every=effective.checkpoint_every_steps,
            keep_checkpoints=spec.checkpoint.keep_last,
            probe_every=spec.validation.every_steps,
            preview_every=spec.validation.preview_every_steps,
            weights=training.weights,
        ),
        sample=SampleSpec(
            count=spec.validation.samples,
            inference_steps=spec.validation.inference_steps or preset.inference_steps,
            seed=spec.validation.seed,
        ),
        formats=tuple(Dialect(name) for name in effective.formats),
    )


def lora_spec(spec: WanFineTuneSpec, expert: Expert) -> LoraSpec | None:
    lora = spec.method.lora
    if lora is None:
        return None
    return LoraSpec(
        rank=lora.rank,
        alpha=float(lora.alpha if lora.alpha is not None else lora.rank),
        dropout=lora.dropout_percent / 100,
        target_modules=tuple(lora.target_modules),
        learning_rate=lora.learning_rate,
        init_from=initial_weights(spec, expert),
    )


def full_spec(spec: WanFineTuneSpec, expert: Expert) -> FullSpec | None:
    full = spec.method.full
    if full is None:
        return None
    return FullSpec(learning_rate=full.learning_rate, init_from=initial_weights(spec, expert))


def initial_weights(spec: WanFineTuneSpec, expert: Expert) -> str | None:
    """Address of the weights that an expert's training starts from, if it names any."""
    method = spec.method.lora or spec.method.full
    source = method.init_from if method is not None else None
    if source is None:
        return None
    own = {Expert.HIGH_NOISE: source.high_noise, Expert.LOW_NOISE: source.low_noise}
    return source.uri or own.get(expert)
