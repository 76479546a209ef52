"""Modules that diffsynth imports and hardly a pod uses: each is loaded when something of it is.

What diffsynth imports at its top takes longer than torch itself. Most of that is for models and
data sets that nothing here uses: decision 0059 has the seconds. After `defer`, some of diffsynth's
modules find stand-ins for such imports while they are executed. No other module ever does: a
stand-in is withdrawn before its importer is done, so `torch._dynamo`, torchvision and the others
are for everyone else what they are without this.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

from wan_runtime.process.imports import importing


class Deferred(ModuleType):
    """Stand-in for a module, which is imported at the first use of what is in it."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(content)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python and inspect try on each module
            raise AttributeError(name)
        return getattr(_load(self.__name__), name)


class Late:
    """Stand-in for a class or function that importers take by its name."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name, self._found = module, name, None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, thing: object) -> bool:
        """Nothing is of a class whose module is not loaded."""
        loaded = sys.modules.get(self._module)
        is_real = loaded is not None and not isinstance(loaded, Deferred)
        return is_real and isinstance(thing, self._real())

    def _real(self) -> Any:
        if self._found is None:
            self._found = getattr(_load(self._module), self._name)
        return self._found


def defer() -> None:
    """Have diffsynth's modules find stand-ins from now on, but for what is imported already."""
    # DeepSpeed is for a way of diffsynth's own that no one takes, and may be absent.
    # `training.zero` imports it where it is at work.
    sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _load(name: str) -> ModuleType:
    """The module itself. Python's own locks hold other threads until it is complete."""
    for each, module in sys.modules.copy().items():
        if isinstance(module, Deferred):  # used while its importer is being executed
            sys.modules.pop(each, None)
    with importing():
        importlib.import_module(name.partition(".")[0])  # two threads take the locks in one order
        return importlib.import_module(name)


def _disable(function: Callable[..., Any] | None = None, *rest: Any, **options: Any) -> Any:
    """torch._dynamo.disable. As a plain decorator it waits for the first call, as in torch's own
    code."""
    if function is None or rest or options:
        return _load("torch._dynamo").disable(function, *rest, **options)
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function)


def _late(module: str, *names: str) -> dict[str, Any]:
    return {name: Late(module, name) for name in names}


ATTENTION = "diffsynth.core.attention.attention"
AUDIO = "transformers.models.wav2vec2.processing_wav2vec2"
ANIMATE = "diffsynth.models.wan_animate_2_dit"
MODULES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # Training data of diffsynth's own scripts: pandas, imageio, torchvision.
    "diffsynth.core": {"diffsynth.core.data": _late("diffsynth.core.data", "UnifiedDataset")},
    # Attention of other models, which compiles a kernel of torch's at once.
    "diffsynth.core.attention": {
        ATTENTION: {**_late(ATTENTION, "attention_forward"), "FLEX_ATTN_AVAILABLE": False}
    },
    # A hub that nothing is fetched from.
    "diffsynth.core.loader.config": {"modelscope": _late("modelscope", "snapshot_download")},
    # Wan2.1's image encoder normalises with it.
    "diffsynth.models.wan_video_image_encoder": {"torchvision": {}, "torchvision.transforms": {}},
    # Another model of the same pipeline.
    "diffsynth.pipelines.wan_video": {ANIMATE: _late(ANIMATE, "WanAnimate2Transformer")},
}
"""What each importer finds of which modules; a package is before what is in it."""
ATTRIBUTES: Mapping[str, tuple[str, str, Any]] = {
    # The compiler, for a decorator on loading from disk.
    "diffsynth.core.vram.layers": (
        "torch", "_dynamo", Deferred("torch._dynamo", {"disable": _disable}),
    ),
    # Prepares sound for a third model.
    "diffsynth.pipelines.wan_video": (
        "transformers", "Wav2Vec2Processor", Late(AUDIO, "Wav2Vec2Processor"),
    ),
}  # fmt: skip
"""What each importer takes of a package that loads its modules late itself."""


@contextmanager
def _standing_in(importer: str) -> Iterator[None]:
    """Stand-ins for what the importer takes and is not loaded, inside alone."""
    modules: dict[str, ModuleType] = {}
    for name, content in MODULES.get(importer, {}).items():
        if name not in sys.modules:
            modules[name] = sys.modules[name] = Deferred(name, content)
            package, _, own = name.rpartition(".")
            if package in modules:
                setattr(modules[package], own, modules[name])
    try:
        with _attribute(*ATTRIBUTES[importer]) if importer in ATTRIBUTES else nullcontext():
            yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


@contextmanager
def _attribute(module: str, name: str, stand_in: object) -> Iterator[None]:
    content = vars(importlib.import_module(module))
    content.setdefault(name, stand_in)
    try:
        yield
    finally:
        if content.get(name) is stand_in:
            del content[name]


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MODULES and name not in ATTRIBUTES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _standing_in(module.__name__):
            super().exec_module(module)
