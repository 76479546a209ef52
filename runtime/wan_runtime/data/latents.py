"""The content-addressed latent cache: what is cached, under which key, and how it is read back.

Three objects a clip, each keyed by the SHA-256 of everything that shapes it, so that both experts
and all runs of a store prefix share them and a changed model, size or caption can never meet a
stale entry. `latents.json`, which the encode step commits, names the entries of one dataset with
their checksums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wan_runtime.artifacts import manifest, space
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.base import Contract
from wan_runtime.contract.dataset import Bucket
from wan_runtime.contract.job import ManifestRef
from wan_runtime.data.buckets import one_of_each_bucket
from wan_runtime.data.dataset import Clip
from wan_runtime.faults import described
from wan_runtime.models.adapters.foreign import opening

# Shapes: C channels, T latent frames, H W latent rows and columns, L tokens, D width of the text
# encoder.

FILE = "latents.json"
TEXT_LENGTH = 512
"""Tokens that the transformer sees, padded with zeros."""

Kind = Literal["video", "text", "image"]
VERSIONS: dict[Kind, int] = {"video": 4, "text": 1, "image": 4}
"""Part of every key of the kind: raise it when reading clips or pictures, encoding or the stored
form changes."""


class Entry(Contract):
    """One cached object."""

    key: str
    """Whole key in the bucket of the encode manifest."""
    bytes: int
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EncodedClip(Contract):
    """A clip's window and its three entries."""

    path: str
    start: int = 0
    """First frame of the window, at the target rate."""
    sha256: str
    """SHA-256 of the clip's file."""
    prompt: str
    source: str
    split: Literal["Train", "HeldOut"]
    bucket: Bucket
    """What it was cut to."""
    video: Entry
    text: Entry
    image: Entry

    @property
    def entries(self) -> tuple[Entry, Entry, Entry]:
        return self.video, self.text, self.image


class Latents(Contract):
    """latents.json."""

    version: Literal[1] = 1
    clips: tuple[EncodedClip, ...]
    empty_text: Entry
    """Encoded "": for caption dropout and unconditional guidance."""
    negative_text: Entry
    """Encoded NEGATIVE_PROMPT."""

    @property
    def train(self) -> list[EncodedClip]:
        return [clip for clip in self.clips if clip.split == "Train"]

    @property
    def held_out(self) -> list[EncodedClip]:
        return [clip for clip in self.clips if clip.split == "HeldOut"]

    @property
    def probed(self) -> list[EncodedClip]:
        """What shows whether training learns, first one clip of each bucket. A dataset of one
        recording has nothing held out; its own clips still do.
        """
        return one_of_each_bucket(self.held_out or self.train)


class Encoders(Contract):
    """Digests of what encodes, and how: the part of the keys that is the same for all clips."""

    tokenizer: str
    text_encoder: str
    vae: str
    image_encoder: str | None
    tiled: bool
    dtype: str


def text_key(caption: str, encoders: Encoders) -> str:
    """Key of a caption's entry within the cache."""
    return _key(
        "text",
        {
            "caption": caption,
            "tokenizer": encoders.tokenizer,
            "encoder": encoders.text_encoder,
            "length": TEXT_LENGTH,
            "dtype": encoders.dtype,
        },
    )


def video_key(clip: Clip, fps: float, encoders: Encoders, start: int = 0) -> str:
    """Key of the latents of a clip's window that begins with frame `start`, within the cache."""
    return _key(
        "video",
        {
            **_pixels(clip, fps, start),
            "vae": encoders.vae,
            "tiled": encoders.tiled,
            "dtype": encoders.dtype,
        },
    )


def image_key(clip: Clip, fps: float, encoders: Encoders, start: int = 0) -> str:
    """Key of the first-frame conditioning of a clip's window within the cache."""
    shape = _pixels(clip, fps, start)
    if clip.first_frame is not None:  # then nothing of the clip itself is in it
        shape = {"picture": clip.first_frame.sha256} | {
            name: shape[name] for name in ("frames", "width", "height", "crop")
        }
    return _key(
        "image",
        {
            **shape,
            "vae": encoders.vae,
            "imageEncoder": encoders.image_encoder,
            "tiled": encoders.tiled,
            "dtype": encoders.dtype,
        },
    )


def _pixels(clip: Clip, fps: float, start: int) -> dict[str, object]:
    return {
        "clip": clip.sha256,
        "firstFrame": start,
        "frames": clip.size.frames,
        "fps": float(fps),
        "width": clip.size.width,
        "height": clip.size.height,
        "crop": "center",
    }


def _key(kind: Kind, shape: dict[str, object]) -> str:
    text = json.dumps(
        {"kind": kind, "version": VERSIONS[kind], **shape},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{kind}/{digest[:2]}/{digest}.safetensors"


def find(store: Store, key: str) -> Entry | None:
    """The entry at a whole key, if one was stored with a checksum."""
    info = store.stat(key)
    if info is None or info.sha256 is None:
        return None
    return Entry(key=key, bytes=info.bytes, sha256=info.sha256)


def put(store: Store, key: str, tensors: dict[str, Tensor]) -> Entry:
    """Store an entry."""
    data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
    info = store.put_bytes(key, data)
    return Entry(key=key, bytes=info.bytes, sha256=hashlib.sha256(data).hexdigest())


def trim_text(context_1LD: Tensor) -> Tensor:
    """[1, 512, D] -> [L, D] without the zeros behind the caption: a tenth of the bytes."""
    used = (context_1LD[0] != 0).any(dim=-1).nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    return context_1LD[0, :length].clone()


def pad_text(context_LD: Tensor) -> Tensor:
    """The inverse: [L, D] -> [512, D]."""
    return F.pad(context_LD, (0, 0, 0, TEXT_LENGTH - context_LD.shape[0]))


def load_latents(store: Store, ref: ManifestRef, work: Path) -> Latents:
    """The list that the encode step committed. Raises ArtifactCorrupt."""
    manifest.fetch(store, ref, work)
    try:
        return Latents.model_validate_json((work / FILE).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactCorrupt(f"{ref.uri} lists no {FILE}: it is no list of latents") from error
    except ValidationError as error:
        raise ArtifactCorrupt(f"{ref.uri} is no list of latents: {described(error)}") from error


class LocalCache:
    """Entries brought to local disk once, verified, and read from there at every use."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder

    def check_space(self, entries: Iterable[Entry]) -> int:
        """Bytes of the entries that are not here yet. Called before any is fetched: they come one
        by one, and a disk that is full after an hour has cost that hour.

        Raises InfrastructureError(DISK_FULL) if there is no room for them.
        """
        sizes = {self._path(entry): entry.bytes for entry in entries}
        left = sum(size for path, size in sizes.items() if not path.is_file())
        self._folder.mkdir(parents=True, exist_ok=True)
        space.require(self._folder, left, f"the latent cache, {len(sizes)} entries,")
        return left

    def _path(self, entry: Entry) -> Path:
        return self._folder / f"{entry.sha256}.safetensors"

    def fetch(self, entry: Entry) -> Path:
        """Path of a verified local copy."""
        # Named by content: a file that is there is right, because a download appears only once
        # verified.
        path = self._path(entry)
        if not path.is_file():
            self._store.download(entry.key, path, sha256=entry.sha256, bytes=entry.bytes)
        return path

    def load(self, entry: Entry) -> dict[str, Tensor]:
        """Tensors of an entry, on the CPU."""
        path = self.fetch(entry)
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ArtifactCorrupt(f"{self._store.uri(entry.key)} {opening(path)}") from error


def finite(tensors: dict[str, Tensor]) -> bool:
    """Whether no value is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
