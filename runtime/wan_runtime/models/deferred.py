"""Modules that diffsynth imports and hardly a pod uses: each is loaded when something of it is.

What diffsynth imports at its top takes longer than torch itself. Most of that is for models and
data sets that nothing here uses: decision 0059 has the seconds. `defer` lets imports of the modules
below give a stand-in, which loads the module at the first use of what is in it. Nothing behaves
otherwise for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from wan_runtime.process.imports import importing


class Deferred(ModuleType):
    """Stand-in for a module. It keeps standing for it where it was imported once."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python and inspect try on each module
            raise AttributeError(name)
        return getattr(load(self.__name__), name)


class Late:
    """Stand-in for a class or function that importers take by its name."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, thing: object) -> bool:
        """Nothing is of a class whose module is not loaded."""
        return self._module not in _pending and isinstance(thing, self._real())

    def _real(self) -> Any:
        return getattr(load(self._module), self._name)


def load(name: str) -> ModuleType:
    """The module itself, whose stand-in goes."""
    root = next(each for each in NAMES if name == each or name.startswith(f"{each}."))
    for each in [each for each in _pending if each == root or each.startswith(f"{root}.")]:
        _pending.discard(each)
        if isinstance(sys.modules.get(each), Deferred):
            del sys.modules[each]
    with importing():
        importlib.import_module(root)
        return importlib.import_module(name)


def defer() -> None:
    """Have imports from now on give stand-ins, but for what is imported already."""
    # DeepSpeed is for a way of diffsynth's own that no one takes, and may be absent.
    # `training.zero` imports it where it is at work.
    sys.modules.setdefault("deepspeed", None)  # type: ignore[arg-type]
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _disable(function: Callable[..., Any] | None = None, *rest: Any, **options: Any) -> Any:
    """torch._dynamo.disable. As a plain decorator it waits for the first call, as in torch's own
    code."""
    if function is None or rest or options:
        return load("torch._dynamo").disable(function, *rest, **options)
    from torch._compile import _disable_dynamo

    return _disable_dynamo(function)


def _late(module: str, *names: str) -> dict[str, Any]:
    return {name: Late(module, name) for name in names}


ATTENTION = "diffsynth.core.attention.attention"
AUDIO = "transformers.models.wav2vec2.processing_wav2vec2"
ANIMATE = "diffsynth.models.wan_animate_2_dit"
NAMES: Mapping[str, Mapping[str, Any]] = {
    # The compiler: everything that does not compile needs its decorator alone.
    "torch._dynamo": {"disable": _disable},
    # Attention of other models, which compiles a kernel of torch's at once.
    ATTENTION: {**_late(ATTENTION, "attention_forward"), "FLEX_ATTN_AVAILABLE": False},
    # Training data of diffsynth's own scripts: pandas, imageio.
    "diffsynth.core.data": _late("diffsynth.core.data", "UnifiedDataset"),
    # Another model of the same pipeline, and what prepares sound for a third.
    ANIMATE: _late(ANIMATE, "WanAnimate2Transformer"),
    AUDIO: _late(AUDIO, "Wav2Vec2Processor"),
    # A hub that nothing is fetched from.
    "modelscope": _late("modelscope", "snapshot_download"),
    # Wan2.1's image encoder normalises with it.
    "torchvision": {},
    "torchvision.transforms": {},
}
"""What the importers of each take by name; a package is before what is in it."""
_pending = set(NAMES)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in _pending:
            real = PathFinder.find_spec(name, path)
            if real is None:
                return None
            spec = ModuleSpec(name, _StandIn(), origin=real.origin)
            spec.submodule_search_locations = real.submodule_search_locations
            return spec
        package = name.rpartition(".")[0]
        if package in _pending:
            load(package)
            if name in sys.modules:
                return _Loaded.spec(sys.modules[name])
        return None


class _StandIn(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).update(NAMES[module.__name__])


class _Loaded(Loader):
    """Gives a module that its package has just imported, and does not execute it again."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._own = module, module.__spec__

    @classmethod
    def spec(cls, module: ModuleType) -> ModuleSpec:
        # importlib takes the spec of what came meanwhile over the one that it is given.
        module.__spec__ = ModuleSpec(module.__name__, cls(module))
        return module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own
