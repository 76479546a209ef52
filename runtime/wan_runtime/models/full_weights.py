"""Full weights that a fine-tune exported, in place of the base model's transformers. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import TRANSFERS, Manifest
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.finetune import Dialect
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import SUFFIXES, Expert
from wan_runtime.errors import InputError
from wan_runtime.models import imported
from wan_runtime.models.absent import store_faults
from wan_runtime.models.imported import ModelFile
from wan_runtime.models.layout import ModelFiles
from wan_runtime.presets import Preset
from wan_runtime.threads import in_order

SHARD = re.compile(r"(-\d{5}-of-\d{5})?\.safetensors")


class FineTune(Contract):
    """What full weights come from."""

    manifest: str
    """SHA-256 of the export's."""
    base_weights: str | None
    """Digest of the base model that was tuned."""
    dataset: str | None
    configuration: str
    """Hash of the configuration of the export's job."""


@dataclass(frozen=True, slots=True)
class FullWeights:
    """Full weights of one or both experts."""

    ref: ManifestRef
    content: Manifest
    shards: dict[Expert, tuple[ModelFile, ...]]

    @classmethod
    def load(cls, store: Store, ref: ManifestRef, preset: Preset) -> FullWeights:
        """What the manifest lists; no file is fetched.

        Raises:
            InputError: MODEL_NOT_FOUND or MODEL_INVALID, if they are no full weights of `preset`.
            InfrastructureError: of the store.
        """
        with store_faults(f"weights {ref.uri}"):
            content = manifest.load(store, ref)
        made = content.lineage.preset
        certified = [
            path for path in content.certified(Dialect.DIFFSYNTH) if path.endswith(".safetensors")
        ]
        if content.kind != "weights" or not certified:
            raise _invalid(ref, f"are a set of {content.kind} without DiffSynth files")
        if made != preset.name:
            raise _invalid(ref, f"are of {made}; the base model is {preset.name}")
        if is_adapter(content):
            raise _invalid(ref, "are an adapter: name it as one")
        entries = {each.path: each for each in content.files}
        base = ref.uri.rpartition("/")[0]
        shards: dict[Expert, tuple[ModelFile, ...]] = {}
        for path in sorted(certified):
            entry = entries[path]
            file = ModelFile(
                path=path, uri=f"{base}/{path}", bytes=entry.bytes, sha256=entry.sha256
            )
            expert = expert_of(path)
            shards[expert] = (*shards.get(expert, ()), file)
        return cls(ref, content, shards)

    @property
    def lineage(self) -> FineTune:
        """For the videos made with them."""
        made = self.content.lineage
        return FineTune(
            manifest=self.ref.sha256,
            base_weights=made.base_weights,
            dataset=made.dataset,
            configuration=made.config_hash,
        )

    def over(self, base: ModelFiles, store: Store, work: Path) -> ModelFiles:
        """The model with these transformers in place of its own: fetched where they are not on this
        machine, and verified.

        Raises:
            InputError: MODEL_NOT_FOUND or MODEL_INVALID, if a file is not what the manifest says.
            InfrastructureError: of the store; DISK_FULL before anything is fetched.
        """
        folder = imported.root(work) / f"weights-{self.ref.sha256}"
        folder.mkdir(parents=True, exist_ok=True)
        files = [file for shards in self.shards.values() for file in shards]
        left = sum(file.bytes for file in files if not (folder / file.path).is_file())
        imported.require(folder, left, f"the weights {self.ref.uri}")
        lock = folder.with_suffix(".lock")
        with store_faults(f"weights {self.ref.uri}"), imported.alone(lock):
            for _ in in_order(
                lambda file: imported.bring(store, file, folder / file.path),
                files,
                threads=TRANSFERS,
            ):
                pass
        mine = {
            expert: tuple(folder / file.path for file in shards)
            for expert, shards in self.shards.items()
        }
        known = {folder / file.path: (file.bytes, file.sha256) for file in files}
        return replace(base, dits={**base.dits, **mine}, verified={**base.verified, **known})


def is_adapter(content: Manifest) -> bool:
    """Whether exported weights are a LoRA."""
    return "rank" in content.summary


def expert_of(name: str) -> Expert:
    """Expert of a file that an export wrote, whether a shard or not."""
    stem = SHARD.sub("", name)
    return next(
        (expert for expert, suffix in SUFFIXES.items() if suffix and stem.endswith(suffix)),
        Expert.ONLY,
    )


def _invalid(ref: ManifestRef, what: str) -> InputError:
    return InputError(Reason.MODEL_INVALID, f"weights {ref.uri} {what}")
