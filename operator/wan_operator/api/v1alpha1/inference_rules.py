"""Rules over the whole of WanInferenceService.spec: what its defaults and effects may ask for, and
how many GPUs can do so together."""

from __future__ import annotations

from itertools import groupby

from wan_operator.api.markers import Schema, rule
from wan_runtime.planner.architecture import TINY_HEADS
from wan_runtime.presets import PRESETS, Preset


def _side(preset: Preset) -> tuple[int, int]:
    return preset.width, preset.height


def _is_usual(size: str) -> str:
    """Whether it is the preset's, the only one of a service that lists none."""
    return " || ".join(
        f"({size}.width == {width} && {size}.height == {height} && "
        f"self.model.preset in {[each.name for each in presets]})"
        for (width, height), presets in groupby(sorted(PRESETS.values(), key=_side), _side)
    )


def _is_listed(size: str) -> str:
    """Whether workers warm up at it."""
    return (
        f"(has(self.sizes) ? self.sizes.exists(each, each.width == {size}.width && "
        f"each.height == {size}.height) : ({_is_usual(size)}))"
    )


_SIZE = "!has(effect.sampling) || !has(effect.sampling.size) || " + _is_listed(
    "effect.sampling.size"
)
_FRAMES = (
    "!has(effect.sampling) || !has(effect.sampling.frames) || "
    "effect.sampling.frames <= self.limits.frames"
)
_SCHEDULE = (
    "!has(effect.sampling) || !has(effect.adapters) || !("
    + " || ".join(
        f"has(effect.sampling.{each})"
        for each in ("steps", "guidance", "guidanceLow", "shift", "negativePrompt")
    )
    + ") || !effect.adapters.exists(use, self.adapters.exists(each, each.name == use.name && "
    "has(each.distilled)))"
)
_PAIRED = "!has(effect.sampling) || !has(effect.sampling.guidanceLow)"
_WHOLE = (
    "!has(effect.adapters) || effect.adapters.all(use, !((has(use.expert) || "
    "(has(use.strength) && use.strength == 0.0)) && self.adapters.exists(each, "
    "each.name == use.name && has(each.distilled))))"
)


def _broken(by: str) -> str:
    """Names of the effects for which an expression is false, as a list."""
    return f"self.effects.filter(effect, !({by})).map(effect, effect.name)"


SAMPLING_RULES: tuple[Schema, ...] = (
    rule(
        "!has(self.defaults) || !has(self.defaults.size) || " + _is_listed("self.defaults.size"),
        "must be a size that spec.sizes lists; without spec.sizes, the preset's",
        ".defaults.size",
        computed="'%dx%d is not listed in spec.sizes: list it there; without spec.sizes, only the "
        "size of the preset is served'.format([self.defaults.size.width, "
        "self.defaults.size.height])",
    ),
    rule(
        "!has(self.defaults) || !has(self.defaults.frames) || "
        "self.defaults.frames <= self.limits.frames",
        "must not be more than limits.frames",
        ".defaults.frames",
        computed="'must not be more than limits.frames, %d: it is %d'"
        ".format([self.limits.frames, self.defaults.frames])",
    ),
    rule(
        f"!has(self.effects) || self.effects.all(effect, {_SIZE})",
        "the sizes of effects must be listed in spec.sizes; without spec.sizes, be the preset's",
        ".effects",
        computed=f"'the sizes of these effects are not listed in spec.sizes: %s; list them there'"
        f".format([{_broken(_SIZE)}])",
    ),
    rule(
        f"!has(self.effects) || self.effects.all(effect, {_FRAMES})",
        "the frames of effects must not be more than limits.frames",
        ".effects",
        computed="'the frames of these effects are more than limits.frames, %d: %s'"
        f".format([self.limits.frames, {_broken(_FRAMES)}])",
    ),
    rule(
        f"!has(self.effects) || !has(self.adapters) || self.effects.all(effect, {_SCHEDULE})",
        "effects with a distilled adapter must leave steps, shift, guidance, guidanceLow and "
        "negativePrompt out: the adapter decides them",
        ".effects",
        computed="'leave steps, shift, guidance, guidanceLow and negativePrompt out of these "
        "effects, whose adapter is distilled and decides them: %s'"
        f".format([{_broken(_SCHEDULE)}])",
    ),
    rule(
        "self.model.preset.startsWith('Wan2.2') || !has(self.defaults) || "
        "!has(self.defaults.guidanceLow)",
        "only Wan2.2 has a low-noise expert: leave guidanceLow out",
        ".defaults.guidanceLow",
        reason="FieldValueForbidden",
    ),
    rule(
        "self.model.preset.startsWith('Wan2.2') || !has(self.effects) || "
        f"self.effects.all(effect, {_PAIRED})",
        "only Wan2.2 has a low-noise expert: leave guidanceLow out of the effects",
        ".effects",
        reason="FieldValueForbidden",
        computed="'only Wan2.2 has a low-noise expert: leave guidanceLow out of these effects: %s'"
        f".format([{_broken(_PAIRED)}])",
    ),
)

_ONE_FILE = "!has(each.files) || has(each.files.uri)"
_KNOWN = (
    "!has(effect.adapters) || effect.adapters.all(use, has(self.adapters) && "
    "self.adapters.exists(each, each.name == use.name))"
)
_OWN_NAME = "!self.adapters.exists(each, each.name == effect.name)"

ADAPTER_RULES: tuple[Schema, ...] = (
    rule(
        "!has(self.adapters) || self.model.preset.startsWith('Wan2.2') || "
        f"self.adapters.all(each, {_ONE_FILE})",
        "only Wan2.2 has experts: set files.uri",
        ".adapters",
        reason="FieldValueForbidden",
        computed="'only Wan2.2 has experts: set files.uri of these adapters: %s'.format("
        f"[self.adapters.filter(each, !({_ONE_FILE})).map(each, each.name)])",
    ),
    rule(
        f"!has(self.effects) || self.effects.all(effect, {_KNOWN})",
        "an effect uses an adapter that spec.adapters does not list",
        ".effects",
        computed="'these effects use an adapter that spec.adapters does not list: %s'"
        f".format([{_broken(_KNOWN)}])",
    ),
    rule(
        f"!has(self.effects) || !has(self.adapters) || self.effects.all(effect, {_WHOLE})",
        "a distilled adapter of an effect needs the whole model: leave expert and strength 0 out",
        ".effects",
        computed="'these effects have a distilled adapter for one expert, or at strength 0, and no "
        "other weights make a video in so few steps: %s; leave expert and strength out'"
        f".format([{_broken(_WHOLE)}])",
    ),
    rule(
        f"!has(self.effects) || !has(self.adapters) || self.effects.all(effect, {_OWN_NAME})",
        "an effect and an adapter have the same name: both are names of models in the API",
        ".effects",
        computed="'these effects have the name of an adapter: %s; both are names of models in the "
        f"API'.format([{_broken(_OWN_NAME)}])",
    ),
)

PARALLEL_RULES: tuple[Schema, ...] = (
    rule(
        "self.parallelism.backend == 'Native' || self.workers.gpus > 1",
        "one GPU has nothing to exchange: leave parallelism out, or set workers.gpus to 2, 4 or 8",
        ".parallelism.backend",
    ),
    rule(
        "self.parallelism.ring == 1 || self.parallelism.backend == 'xDiT'",
        "only the backend xDiT has rings",
        ".parallelism.ring",
    ),
    rule(
        "self.parallelism.backend == 'Native' || self.parallelism.ring == 1 || "
        "2 * self.parallelism.ring <= self.workers.gpus",
        "must be at most half of workers.gpus, which compute one branch of guidance together",
        ".parallelism.ring",
        computed="'must be at most half of workers.gpus, %d, which compute one branch of guidance "
        "together; it is %d'.format([self.workers.gpus, self.parallelism.ring])",
    ),
    rule(
        "self.parallelism.ring == 1 || self.acceleration.profile != 'Exact'",
        "a ring rounds otherwise than one GPU: take ring 1, or another profile than Exact",
        ".parallelism.ring",
    ),
    rule(
        "!self.model.preset.endsWith('-Tiny') || "
        f"self.workers.gpus <= {TINY_HEADS} * self.parallelism.ring",
        f"8 GPUs cannot share the {TINY_HEADS} attention heads of a Tiny preset: take 1, 2 or 4, "
        "or the backend xDiT with ring 2",
        ".workers.gpus",
    ),
)
