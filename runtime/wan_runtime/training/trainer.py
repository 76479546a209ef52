"""The training of one expert, step by step: an adapter on it, or all its weights, from the latent
cache.

Only the transformer is in memory. One path for 14B on a GPU and for the tiny models on a CPU.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.results import encoded
from wan_runtime.contract.summary import TRAINED_STEPS
from wan_runtime.contract.training import KEEPING, Keeping, TrainingSpec
from wan_runtime.data.latents import Latents, LocalCache, load_latents
from wan_runtime.errors import InputError
from wan_runtime.models import compile_cache
from wan_runtime.models.digest import files_digest
from wan_runtime.models.dit.parallel import Mesh
from wan_runtime.models.dit.tokens import split_over
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.models.flow import NoiseLevels, add_noise, velocity
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import compute_device, compute_dtype
from wan_runtime.models.source import base_model
from wan_runtime.presets import preset_of
from wan_runtime.process.outcome import Outcome
from wan_runtime.process.progress import Reporter
from wan_runtime.training import curve, guard, init_from, replicas
from wan_runtime.training.batches import load_batch
from wan_runtime.training.best import BestWeights
from wan_runtime.training.checkpoint import Checkpoints, TrainState, jobs_alike
from wan_runtime.training.draws import Draws, Part
from wan_runtime.training.ema import Average
from wan_runtime.training.meet import check
from wan_runtime.training.method import Method, method_of
from wan_runtime.training.preview import Previews
from wan_runtime.training.probes import MAX_CLIPS, Probes
from wan_runtime.training.sampler import steps_of
from wan_runtime.training.update import PlainUpdate, Update, make_optimizer
from wan_runtime.training.validation import Validation
from wan_runtime.training.zero import DeepSpeedUpdate

# Shapes: B batch, C channels, T latent frames, H W latent rows and columns.

RECORD, PICTURE, ZERO = "training.json", "loss.png", "deepspeed.json"


@dataclass
class Trainer:
    """The parts of one run."""

    job: JobSpec
    store: Store
    work: Path
    report: Reporter
    ranks: Mesh
    method: Method
    transformer: Transformer
    state: TrainState
    draws: Draws
    cache: LocalCache
    validation: Validation
    checkpoints: Checkpoints
    lineage: Lineage
    total: int
    latents_left: int
    """Bytes of latents that were not on the disk when this attempt began."""
    resumed_from: int = 0
    """Step of the checkpoint that this attempt went on from."""
    saved: int = 0
    """Step of the newest checkpoint."""

    @classmethod
    def build(
        cls,
        job: JobSpec,
        store: Store,
        work: Path,
        report: Reporter,
        ranks: Mesh,
        own: Path | None = None,
    ) -> Trainer:
        """Load the transformer, make it trainable, fetch the latents. Collective.

        Args:
            work: folder of what is fetched, which two trainings may share.
            own: folder of what is written; by default the same.
        """
        own = work if own is None else own
        spec, method = finetune_of(job).training, method_of(job)
        # Before anything runs on the GPU. Not `warn_only`: with that, attention keeps its backward.
        torch.use_deterministic_algorithms(spec.deterministic)
        # Nothing reads what was not written: to fill it first would only cost time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        device = compute_device()
        compile_cache.use(device)
        dtype = compute_dtype(device)

        def fetch() -> tuple[ModelFiles, Latents]:
            report.update(activity="fetching the base model")
            files = base_model(job, store, work, report)
            report.update(activity="fetching the latents")
            return files, load_latents(store, encoded(job), work)

        files, latents = ranks.first_on_node(fetch)
        lineage = Lineage.of(
            job,
            base_weights=ranks.decided(
                lambda: files_digest(files.dits[job.expert], files.verified)
            ),
            base_precision="FP8" if spec.base_precision == "FP8" else None,
            dataset=encoded(job).sha256,
            seed=spec.seed,
        )
        cache = LocalCache(store, work / "latents")
        if not latents.train:
            raise InputError(Reason.DATASET_EMPTY, "the latent cache holds no clip to train on")
        used = [*latents.train, *latents.probed[:MAX_CLIPS]]
        entries = chain.from_iterable(clip.entries for clip in used)
        left = cache.check_space([*entries, latents.empty_text, latents.negative_text])
        report.update(activity="loading the transformer")
        torch.manual_seed(spec.seed)  # LoRA dropout, the only draw from the global generator
        transformer = Transformer.load(
            files,
            job.expert,
            device,
            dtype,
            storage=method.storage(dtype),
            float8=spec.base_precision == "FP8",
            kernels=spec.attention,
            keeping=keeping_of(spec),
        )
        trainable = method.prepare(transformer, spec.seed)
        check(finetune_of(job), transformer)
        total = steps_of(spec, len(latents.train))
        divided = spec.parallelism.zero_stage > 0
        optimizer, schedule = make_optimizer(
            method.groups(trainable),
            method.learning_rate,
            spec,
            total,
            fused=divided or device.type == "cuda",  # also on the CPU, where ZeRO may have it
        )
        update: Update = (
            DeepSpeedUpdate(transformer, trainable, optimizer, schedule, spec, ranks)
            if divided
            else PlainUpdate(trainable, optimizer, schedule, spec.max_gradient_norm, ranks)
        )
        levels = NoiseLevels.build(preset_of(job), job.expert, spec.loss_weighting)
        state = TrainState(trainable, update, torch.Generator().manual_seed(spec.seed), device)
        if spec.ema_decay is not None:
            state.average = Average(trainable, spec.ema_decay)
        validation = Validation(
            job=job,
            store=store,
            work=own,
            transformer=transformer,
            state=state,
            total=total,
            ranks=ranks,
            probes=Probes(latents.probed, cache, levels, spec.seed, device, dtype, ranks),
            previews=Previews(job, store, own, files, latents, cache, device, dtype, ranks),
            best=BestWeights(store, f"{job.output_prefix}/best", own, lineage, method),
        )
        return cls(
            job=job,
            store=store,
            work=own,
            report=report,
            ranks=ranks,
            method=method,
            transformer=transformer,
            state=state,
            draws=Draws(latents.train, latents.empty_text, levels, spec, ranks.data),
            cache=cache,
            validation=validation,
            checkpoints=Checkpoints(
                store,
                f"{job.output_prefix}/checkpoints",
                own,
                lineage,
                spec.keep_checkpoints,
                jobs_alike(job),
            ),
            lineage=lineage,
            total=total,
            latents_left=left,
        )

    def start(self) -> None:
        """Go on from the newest checkpoint, or begin; on all ranks alike. Collective."""
        resumed = self.state.update.led(self._resume)
        replicas.share(self.state, self.ranks, resumed=resumed)
        self.report_checkpoint()
        self.resumed_from = self.saved = self.state.step

    def _resume(self) -> bool:
        self.checkpoints.check_space(self.state, beside=self.latents_left)
        if self.checkpoints.resume(self.state):
            return True
        self.begin()
        return False

    def begin(self) -> None:
        """Start from the weights that `initFrom` names, if it does."""
        source = init_from.begin(self.job, self.store, self.work, self.state.trainable)
        if source is not None:
            self.state.history["initFrom"] = source
            if self.state.average is not None:
                self.state.average.reset()

    def step(self) -> None:
        """One optimizer step: draw, predict, check, clip, update, record. Collective."""
        state, parts = self.state, self.draws.parts
        started = time.perf_counter()
        losses = torch.zeros(parts, dtype=torch.float64)
        for part in self.draws.step(state.position, state.generator):
            share = self._loss(part) / parts
            state.update.backward(share)
            if self.ranks.sequence.index == 0:  # all of its group have this loss
                losses[part.index] = float(share.detach())
        state.update.reduce()
        loss = 0.0
        for value in self.ranks.add(losses).tolist():
            loss += value
        number = state.step + 1
        guard.check_loss(loss, number)
        # Bell weighs one level with zero: a step of it alone has no gradient by nature.
        if number <= guard.GUARDED_STEPS and loss != 0:
            state.update.check_gradients(number)
        applied = state.update.apply(number)
        if state.average is not None:
            state.average.update(number)
        state.step, state.position = number, state.position + self.draws.clips_a_step
        state.history["steps"].append(
            {
                "step": number,
                "loss": loss,
                "gradientNorm": applied.norm,
                "learningRate": applied.learning_rate,
                "updatesLost": applied.updates_lost,
                "seconds": time.perf_counter() - started,
            }
        )
        self.report.update(
            activity="training",
            current=number,
            total=self.total,
            unit="steps",
            loss=loss,
            updates_lost=applied.updates_lost,
        )

    def _loss(self, part: Part) -> Tensor:
        """Weighted mean squared velocity error, a float32 scalar."""
        device = self.state.device
        batch = load_batch(self.cache, part.clips, device, self.transformer.dtype)
        noise = part.noise_BCTHW.to(device)
        through = self.transformer.begin(
            batch.conditions,
            tokens=split_over(self.ranks.sequence),
            recompute=finetune_of(self.job).training.gradient_checkpointing == "Full",
        )
        noisy = add_noise(batch.clean_BCTHW, noise, part.sigmas_B)
        predicted = through.velocity(noisy, part.sigmas_B)
        errors_B = (predicted - velocity(batch.clean_BCTHW, noise)).pow(2).mean(dim=(1, 2, 3, 4))
        return (errors_B * part.weights_B.to(device)).mean()

    def validate(self) -> None:
        """What is due after a step, on the weights that would be committed."""
        with self.state.judged(), self.report.uncounted():
            self.validation.run_due()

    def save(self) -> None:
        """Write a checkpoint, unless the newest is of this step or the run is at its end.
        Collective."""
        if self.state.step not in (self.saved, self.total):
            replicas.check_equal(self.state, self.ranks)
            with self.report.uncounted():
                self.state.update.led(self._save)
            self.saved = self.state.step
            self.report_checkpoint()

    def _save(self) -> None:
        self.checkpoints.save(self.state)
        self.validation.checkpointed(self.checkpoints.steps())

    def report_checkpoint(self) -> None:
        """Report the newest checkpoint to those who read the progress."""
        if self.checkpoints.newest is not None:
            self.report.saved(self.checkpoints.newest)

    def finish(self) -> Outcome:
        """Commit what was trained, on all ranks. Collective."""
        replicas.check_equal(self.state, self.ranks)
        with self.state.judged():
            return self.state.update.led(self.commit)

    def commit(self) -> Outcome:
        """Write and commit what was trained."""
        self.report.update(activity="committing the weights")
        history, spec = self.state.history, finetune_of(self.job).training
        committed = self.validation.choose()
        about = {"preset": self.job.base.preset, "expert": str(self.job.expert)}
        settings = {**self.method.settings(), "training": spec.model_dump(mode="json")}
        record, picture = self.work / RECORD, self.work / PICTURE
        record.write_text(json.dumps({**about, **settings, **history}, indent=1))
        curve.draw(history, picture, f"{self.job.namespace}/{self.job.name} · {self.job.step_id}")
        beside = [(RECORD, record), (PICTURE, picture)]
        if self.state.update.config is not None:
            (self.work / ZERO).write_text(json.dumps(self.state.update.config, indent=1))
            beside.append((ZERO, self.work / ZERO))
        files = chain(
            beside,
            self.method.write(
                self.state.layout, partial(self.state.read, "weights"), self.work, about
            ),
        )
        seconds = sorted(entry["seconds"] for entry in history["steps"])
        means = {probe["step"]: probe["losses"]["mean"] for probe in history["probes"]}
        first, last = means[0], means[committed]
        summary: dict[str, int | float | str] = {
            TRAINED_STEPS: self.state.step,
            "committedStep": committed,
            "resumedFromStep": self.resumed_from,
            "firstProbeLoss": round(first, 6),
            "lastProbeLoss": round(last, 6),
            "secondsPerStep": round(seconds[len(seconds) // 2], 4),
        }
        ref = manifest.commit_pieces(
            self.store,
            self.job.output_prefix,
            files,
            kind="training",
            lineage=self._lineage(),
            summary=summary,
        )
        self.validation.close()
        message = f"{self.state.step} steps; loss of the held-out probes {first:.4f} -> {last:.4f}"
        return Outcome(manifest=ref, message=message, summary=summary)

    def _lineage(self) -> Lineage:
        """With where the weights started from."""
        source = self.state.history.get("initFrom")
        if source is None:
            return self.lineage
        inputs = {**self.lineage.inputs, "initFrom": ManifestRef(**source)}
        return self.lineage.model_copy(update={"inputs": inputs})


def keeping_of(spec: TrainingSpec) -> Keeping | None:
    """What blocks keep, where that is more than their inputs."""
    return next((each for each in KEEPING if each == spec.gradient_checkpointing), None)
