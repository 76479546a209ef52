"""What a run consists of: its steps and what each waits for, the resolved values, and the job file
of each step.

Derived from the spec and the settings alone, so that it comes out the same after every restart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from wan_operator.api.v1alpha1.common import Store
from wan_operator.api.v1alpha1.finetune import (
    Dataset,
    Effective,
    EffectiveBucket,
    WanFineTuneSpec,
    WanFineTuneStatus,
)
from wan_operator.api.v1alpha1.runs import StepStatus
from wan_operator.reconcile.runs.state import Run
from wan_operator.reconcile.store import (
    StoreNotConfiguredError,
    resolve_store,
)
from wan_operator.resources.labels import Owner
from wan_operator.settings import Settings
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.steps import FACTS, Expert, Shard, Step, step_id
from wan_runtime.presets import PRESETS

FineTuneRun = Run[WanFineTuneSpec, WanFineTuneStatus]
SPREAD_WINDOWS = 2


@dataclass(frozen=True, slots=True)
class FineTuneStep:
    """One Job at a time, attempt after attempt."""

    step: Step
    expert: Expert = Expert.ONLY
    needs: tuple[str, ...] = ()
    """Ids of the steps whose output it reads."""
    after: tuple[str, ...] = ()
    """Ids of the steps that it waits for only so as not to run beside them."""
    shard: Shard | None = None
    """The part of the clips that it takes."""
    gathers: bool = False
    """It only lists what its parts made."""

    @property
    def id(self) -> str:
        return step_id(self.step, self.expert, self.shard)

    @property
    def reports_as(self) -> str:
        return self.id

    @property
    def group(self) -> str:
        return self.step.value

    @property
    def must_commit(self) -> bool:
        return FACTS[self.step].must_commit

    @property
    def may_fail(self) -> bool:
        return False

    @property
    def has_checkpoints(self) -> bool:
        return FACTS[self.step].has_checkpoints

    @property
    def needs_gpu(self) -> bool:
        return FACTS[self.step].gpu and not self.gathers

    @property
    def trains(self) -> bool:
        return self.step is Step.TRAIN

    @property
    def reads_import(self) -> bool:
        """Whether it reads the imported base model."""
        return step_id(Step.IMPORT) in self.needs


def plan_steps(spec: WanFineTuneSpec) -> tuple[FineTuneStep, ...]:
    """A graph, listed in an order in which its steps could run one by one. What waits for nothing
    any more runs, beside whatever else does."""
    prepare = FineTuneStep(Step.PREPARE)
    # Tiny presets without a source are made where they are needed.
    imports = [FineTuneStep(Step.IMPORT)] if spec.model.source is not None else []
    model = tuple(planned.id for planned in imports)
    encodes = encodings(spec, needs=(prepare.id, *model))
    trains = trainings(spec, needs=(encodes[-1].id, *model))
    export = FineTuneStep(Step.EXPORT, needs=tuple(train.id for train in trains))
    sample = FineTuneStep(Step.SAMPLE, needs=(export.id, *model))
    samples = [sample] if spec.validation.samples else []
    return (prepare, *imports, *encodes, *trains, export, *samples)


def encodings(spec: WanFineTuneSpec, needs: tuple[str, ...]) -> list[FineTuneStep]:
    """One, or some that take a part of the clips each and one that gathers their lists."""
    count = spec.dataset.encode_parallelism
    if count == 1:
        return [FineTuneStep(Step.ENCODE, needs=needs)]
    shards = [Shard(index=index, count=count) for index in range(count)]
    parts = [FineTuneStep(Step.ENCODE, needs=needs, shard=shard) for shard in shards]
    whole = (*needs, *(part.id for part in parts))
    return [*parts, FineTuneStep(Step.ENCODE, needs=whole, gathers=True)]


def trainings(spec: WanFineTuneSpec, needs: tuple[str, ...]) -> list[FineTuneStep]:
    """One for each expert; in sequence, each after the one before. One for both where they train
    jointly."""
    if trains_jointly(spec):
        return [FineTuneStep(Step.TRAIN, needs=needs)]
    made: list[FineTuneStep] = []
    for expert in experts_of(spec):
        after = () if trains_in_parallel(spec) else tuple(earlier.id for earlier in made)
        made.append(FineTuneStep(Step.TRAIN, expert, needs, after))
    return made


def trains_in_parallel(spec: WanFineTuneSpec) -> bool:
    return spec.parallelism.experts == "Parallel"


def trains_jointly(spec: WanFineTuneSpec) -> bool:
    """Whether one step trains both experts."""
    return spec.parallelism.experts == "Joint"


def prepare_of(steps: Iterable[StepStatus]) -> StepStatus | None:
    """The state of the step that counts the clips."""
    return next((step for step in steps if step.name == Step.PREPARE), None)


def has_begun(run: FineTuneRun) -> bool:
    """Whether a step is open or past."""
    return any(step.state != "Waiting" for step in run.status.steps)


def has_trained(run: FineTuneRun) -> bool:
    """Whether all training is done."""
    trains = [planned.id for planned in plan_steps(run.spec) if planned.trains]
    done = {step.name for step in run.status.steps if step.state == "Complete"}
    return done.issuperset(trains)


def has_exported(run: FineTuneRun) -> bool:
    """Whether the export has begun."""
    return any(step.name == Step.EXPORT and step.state != "Waiting" for step in run.status.steps)


def sources(plan: Sequence[FineTuneStep], id: str) -> frozenset[str]:
    """Ids of all steps that the output of `id` is made from, at any distance."""
    direct = next(planned.needs for planned in plan if planned.id == id)
    return frozenset(direct).union(*(sources(plan, each) for each in direct))


def experts_of(spec: WanFineTuneSpec) -> tuple[Expert, ...]:
    """High noise before low noise, whatever the order in the spec: a list of a set has none."""
    available = PRESETS[spec.model.preset].experts
    if spec.experts is None:
        return available
    return tuple(expert for expert in available if expert.value in spec.experts)


def resolve(
    owner: Owner,
    spec: WanFineTuneSpec,
    settings: Settings,
    before: Effective | None,
    exported: bool = False,
) -> Effective:
    """status.effective. Raises StoreNotConfiguredError.

    `exported`: the export has begun. The API server refuses other formats from then on; one that
    slipped in before the status said so is not what is exported.

    Bucket and prefix stay as they were when the run began, which is `before`: its artifacts lie
    there. Endpoint, region and Secret follow the settings, so that correcting a Helm value heals a
    run that waits for it.
    """
    try:
        store = resolve_store(spec.store or Store(), settings)
    except StoreNotConfiguredError:
        if before is None:
            raise
        store = before.store
    if before is not None:
        pinned = {"bucket": before.store.bucket, "prefix": before.store.prefix}
        store = store.model_copy(update=pinned)
    formats: list[str] = list(spec.output.formats or default_formats(spec))
    if before is not None and exported:
        formats = before.formats
    preset = PRESETS[spec.model.preset]
    key_prefix = "/".join(
        part for part in (store.prefix, owner.namespace, owner.name, owner.uid[:8]) if part
    )
    return Effective(
        store=store,
        fps=spec.dataset.fps or int(preset.fps),
        buckets=[EffectiveBucket(**each.model_dump()) for each in buckets_of(spec)],
        experts=[expert.value for expert in experts_of(spec)],
        formats=formats,
        gpus=spec.parallelism.gpus_per_node
        * spec.parallelism.nodes
        * (len(experts_of(spec)) if trains_in_parallel(spec) else 1),
        image=settings.runtime_image,
        run_prefix=f"s3://{store.bucket}/{key_prefix}",
    )


def default_formats(spec: WanFineTuneSpec) -> tuple[Dialect, ...]:
    """An adapter is small: all. A full 14B transformer is 28 GB in each."""
    return tuple(Dialect) if spec.method.lora is not None else (Dialect.DIFFSYNTH,)


def buckets_of(spec: WanFineTuneSpec) -> tuple[Bucket, ...]:
    """What clips are cut to, the largest first: the list in the spec has no order."""
    dataset, preset = spec.dataset, PRESETS[spec.model.preset]
    if dataset.buckets is None:
        return (
            Bucket(
                width=dataset.width or preset.width,
                height=dataset.height or preset.height,
                frames=dataset.frames or preset.frames,
            ),
        )
    stated = [Bucket(**each.model_dump()) for each in dataset.buckets]
    return tuple(sorted(stated, key=_size, reverse=True))


def _size(bucket: Bucket) -> tuple[int, int]:
    """Sort key of a bucket: its tokens, up to a factor, then its width. In descending order a
    landscape comes before a portrait of as many tokens."""
    return bucket.width * bucket.height * (bucket.frames + 3), bucket.width


def windows_of(dataset: Dataset) -> int:
    """Windows taken from each clip, at most."""
    return (dataset.windows_per_clip or SPREAD_WINDOWS) if dataset.window == "Spread" else 1


def inputs_of(steps: Iterable[StepStatus], wanted: Collection[str]) -> dict[str, ManifestRef]:
    """Manifests of the steps of these ids, by step id. Not of all that are done: which those are
    depends on the moment, and a checkpoint is resumed from only by a job of equal inputs."""
    return {
        step.name: ManifestRef(uri=step.artifact.uri, sha256=step.artifact.sha256)
        for step in steps
        if step.artifact is not None and step.name in wanted
    }
