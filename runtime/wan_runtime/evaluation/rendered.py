"""Videos of a candidate that are rendered here, by the renderer of services."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract import results
from wan_runtime.contract.evaluation import (
    OTHER_KERNELS,
    CandidateSpec,
    FloorRender,
    evaluation_of,
)
from wan_runtime.contract.job import JobSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.sampling import (
    COMPUTED_SHARE,
    DEFAULT_PROFILE,
    DEFAULT_STEP_CACHE,
    EIGHT_BITS,
    AttentionKernel,
    Profile,
    SamplingSpec,
)
from wan_runtime.contract.service import AdapterSpec, AdapterUse
from wan_runtime.errors import InputError, NumericalError
from wan_runtime.evaluation.records import Render, TestClip, Video
from wan_runtime.evaluation.renders import RenderCache
from wan_runtime.model_parts import needed
from wan_runtime.models import compile_cache
from wan_runtime.models.absent import store_faults
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.adapters.cache import AdapterCache
from wan_runtime.models.adapters.files import AdapterFiles
from wan_runtime.models.digest import canonical_json, files_digest
from wan_runtime.models.dit.parallel import alone
from wan_runtime.models.full_weights import FullWeights, is_adapter
from wan_runtime.models.layout import encoder_files
from wan_runtime.models.load import compute_device, compute_dtype
from wan_runtime.models.tuned import tuned_files
from wan_runtime.presets import NEGATIVE_PROMPT, Preset, preset_of
from wan_runtime.process.progress import Reporter
from wan_runtime.rendering import provenance
from wan_runtime.rendering.media import write_mp4
from wan_runtime.rendering.model import Model, digest_of
from wan_runtime.rendering.order import Stage, VideoOrder
from wan_runtime.rendering.render import Renderer, Shot

log = logging.getLogger(__name__)

RENDERER = 3
"""Part of the names in the cache: a release that renders otherwise has another."""
OTHER_SEED = 2**31
"""Distance from a clip's seed to that of its other render: larger than between two clips, and below
2**32, since torch's generator of the CPU reads 32 bits of a seed."""
ADAPTER_BYTES = 8 * 2**30
"""Host memory for adapters."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One video to make."""

    clip: TestClip
    render: Render
    seed: int
    profile: Profile


def wanted_of(
    clips: Sequence[TestClip], profile: Profile, again: Collection[FloorRender]
) -> list[Wanted]:
    """The videos of these clips, and then those by which they are repeated. Raises
    InputError(JOB_INVALID) for other kernels beside a profile of 8 bits."""
    wanted = [Wanted(clip, "First", clip.seed, profile) for clip in clips]
    if "OtherSeed" in again:
        for clip in clips:
            seed = (clip.seed + OTHER_SEED) % 2**63
            wanted.append(Wanted(clip, "OtherSeed", seed, profile))
    if "OtherKernels" in again:
        other = OTHER_KERNELS.get(profile)
        if other is None:
            raise InputError(
                Reason.JOB_INVALID,
                f"the noise floor of other kernels is that of a candidate with the profile Exact "
                f"or Lossless, not {profile}",
            )
        wanted += [Wanted(clip, "OtherKernels", clip.seed, other) for clip in clips]
    return wanted


def order_of(preset: Preset, sampling: SamplingSpec, wanted: Wanted) -> VideoOrder:
    """What is rendered: the preset's settings where the evaluation says nothing."""
    guidance = sampling.guidance or preset.guidance
    pair = len(preset.experts) > 1
    negative = sampling.negative_prompt
    return VideoOrder(
        prompt=wanted.clip.prompt,
        negative_prompt=NEGATIVE_PROMPT if negative is None else negative,
        size=wanted.clip.size,
        frames=wanted.clip.frames,
        fps=wanted.clip.fps,
        steps=sampling.steps or preset.inference_steps,
        guidance=guidance,
        guidance_low=(sampling.guidance_low or guidance) if pair else guidance,
        shift=sampling.shift or preset.shift,
        seed=wanted.seed,
        model=preset.name,
    )


class Candidate:
    """A candidate with the files of its weights on this machine. Its model is loaded with the first
    video that no cache has, and again for another profile."""

    def __init__(
        self, job: JobSpec, spec: CandidateSpec, store: Store, work: Path, report: Reporter
    ) -> None:
        """Raises InputError or InfrastructureError for weights that cannot be had."""
        self._spec, self._store, self._work, self._report = spec, store, work, report
        self._sampling, self._preset = evaluation_of(job).sampling, preset_of(job)
        self._cache = RenderCache(store, job.cache_prefix, work)
        self._device = compute_device()
        compile_cache.use(self._device)
        tuned, self._adapters = self._weights()
        self._fine_tune = tuned.lineage if tuned else None
        self._bring = partial(
            tuned_files, tuned, job.base, results.imported(job), store=store, work=work,
            report=report,
        )  # fmt: skip
        self._parts = needed(job)
        # What an import verified is known by its digests: a model is large, and all videos may be
        # in the cache.
        self._listed = self._bring(())
        self._digest = digest_of(self._listed)
        self._model: Model | None = None
        self._loras = AdapterCache(ADAPTER_BYTES, compute_dtype(self._device))

    @property
    def gpu(self) -> str:
        """Type of the GPU; `CPU` without one."""
        return torch.cuda.get_device_name() if self._device.type == "cuda" else "CPU"

    def make(
        self, wanted: Wanted, first_frame: Path, sha256: str, advance: Callable[[], None]
    ) -> Video:
        """Find a video in the cache, or render it.

        Args:
            sha256: that of the first frame's file.
            advance: called at each step of the rendering.
        """
        order = order_of(self._preset, self._sampling, wanted)
        key = self._cache.key(self._made_from(order, wanted.profile, sha256))
        kept = self._cache.find(key)
        if kept is not None:
            facts = kept.facts
            seconds, gpu = facts.get("gpuSeconds"), str(facts.get("gpu", ""))
            return self._video(wanted, video=kept.video, gpu_seconds=seconds, gpu=gpu)
        try:
            shot = self._render(order, wanted.profile, first_frame, advance)
        except NumericalError as error:
            return self._failed(wanted, error.message)
        except InputError as error:
            if error.reason is not Reason.CLIP_INVALID:
                raise  # of the weights: no clip would do better
            return self._failed(wanted, error.message)
        assert shot.frames is not None
        # Loading comes once, and is no part of what a further video costs.
        seconds = round(sum(shot.seconds.values()) - shot.seconds[Stage.LOADING], 3)
        facts = provenance.metadata(
            order, self._preset.name, self._digest, self._adapters, self._fine_tune,
            gpu=self.gpu, gpuSeconds=seconds, profile=wanted.profile,
            **self._named(wanted.profile),
        )  # fmt: skip
        path = self._work / "rendered.mp4"
        write_mp4(shot.frames, path, order.fps, facts)
        stored = self._cache.keep(key, path)
        path.unlink()
        return self._video(wanted, video=stored, gpu_seconds=seconds, gpu=self.gpu)

    def _renderer(self, profile: Profile) -> Renderer:
        if self._model is None or self._model.profile != profile:
            self._report.update(activity="loading the model")
            self._model = None  # first: there is room for one
            self._tidy()
            policy = self._spec.step_cache or DEFAULT_STEP_CACHE
            files = self._bring(self._parts)
            named = self._named(profile).get("attention")
            self._model = Model(files, alone(), self._device, profile, policy, attention=named)
        return Renderer(self._model, self._loras)

    def _named(self, profile: Profile) -> dict[str, AttentionKernel]:
        """The attention kernel that must be used; empty: none. Exact has its own, with which the
        noise floor's other kernels are rendered."""
        named = self._spec.attention
        return {} if named is None or profile == "Exact" else {"attention": named}

    def _weights(self) -> tuple[FullWeights | None, tuple[AppliedAdapter, ...]]:
        """What stands in place of transformers, and what is put on them."""
        spec = self._spec
        adapter: AdapterSpec | None = None
        if spec.weights is not None:
            with store_faults(f"weights {spec.weights.uri}"):
                content = manifest.load(self._store, spec.weights)
            if not is_adapter(content):
                return FullWeights.load(self._store, spec.weights, self._preset), ()
            adapter = AdapterSpec(name=spec.name, artifact=spec.weights)
        elif spec.adapter is not None:
            files, strength = spec.adapter.files, spec.adapter.strength
            adapter = AdapterSpec(name=spec.name, files=files, strength=strength)
        if adapter is None:
            return None, ()
        self._report.update(activity="fetching the adapter")
        found = AdapterFiles(self._store, self._work / "adapters", self._preset)
        return None, (found.apply(adapter, AdapterUse(name=spec.name)),)

    def _made_from(
        self, order: VideoOrder, profile: Profile, first_frame: str
    ) -> dict[str, object]:
        """All that the pixels depend on, by content: no name is part of it."""
        settings = order.model_dump(mode="json", exclude={"model", "adapters", "image", "profile"})
        # In 8 bits where the GPU has them and otherwise elsewhere: what a profile costs in quality
        # must not be measured on videos that were made without it.
        gpu = {"gpu": self.gpu} if profile in EIGHT_BITS else {}
        policy = self._spec.step_cache or DEFAULT_STEP_CACHE
        left_out = {"stepCache": policy} if profile in COMPUTED_SHARE else {}
        return {
            **gpu,
            **left_out,
            **self._named(profile),
            "renderer": RENDERER,
            "preset": self._preset.name,
            "weights": self._put_on,
            "encoders": self._encoders,
            "profile": profile,
            "firstFrame": first_frame,
            **settings,
        }

    @cached_property
    def _put_on(self) -> str:
        """Digest of the base weights and of what was put on them."""
        adapters = [
            {name: value for name, value in facts.items() if name != "name"}
            for facts in provenance.adapter_facts(self._adapters)
        ]
        return hashlib.sha256(canonical_json([self._digest, adapters])).hexdigest()

    @cached_property
    def _encoders(self) -> str:
        """Digest of what reads prompts and pictures, and of what decodes the video."""
        return files_digest(encoder_files(self._listed), self._listed.verified)

    def _render(
        self, order: VideoOrder, profile: Profile, first_frame: Path, advance: Callable[[], None]
    ) -> Shot:
        renderer = self._renderer(profile)
        try:
            return renderer.render(
                order, first_frame, self._adapters, lambda stage, step: advance()
            )
        finally:
            self._tidy()  # of what a failed video left, too

    def _tidy(self) -> None:
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()

    def _failed(self, wanted: Wanted, message: str) -> Video:
        log.warning("%s: %s", wanted.clip.id, message)
        return self._video(wanted, failure=message)

    def _video(self, wanted: Wanted, **found: object) -> Video:
        return Video.model_validate(
            {
                "clip": wanted.clip.id,
                "candidate": self._spec.name,
                "render": wanted.render,
                "seed": wanted.seed,
                "profile": wanted.profile,
                "weights": self._put_on,
                **found,
            }
        )


def render(
    job: JobSpec,
    spec: CandidateSpec,
    clips: Sequence[TestClip],
    store: Store,
    work: Path,
    report: Reporter,
) -> Iterator[Video]:
    """The videos of these clips, each in the cache before the next is begun. Raises as `Candidate`
    does."""
    work_of = evaluation_of(job)
    again = work_of.noise_floor_renders if work_of.noise_floor == spec.name else ()
    wanted = wanted_of(clips, spec.profile or DEFAULT_PROFILE, again)
    if not wanted:
        return
    ref = results.collected(job)
    pictures = {each.first_frame for each in clips}
    content = manifest.fetch(store, ref, work / "clips", pictures)
    digests = {entry.path: entry.sha256 for entry in content.files}
    candidate = Candidate(job, spec, store, work, report)
    for done, each in enumerate(wanted):
        advance = partial(
            report.update, activity="rendering", current=done, total=len(wanted), unit="videos"
        )
        advance()
        picture = each.clip.first_frame
        yield candidate.make(each, work / "clips" / picture, digests[picture], advance)
