"""One list of latents from those that the parts of an encode step made. No model is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.manifest import Lineage
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.job import JobSpec, ManifestRef
from wan_runtime.contract.results import prepared
from wan_runtime.contract.summary import HELD_OUT_CLIPS, TRAINED_CLIPS
from wan_runtime.data import latents
from wan_runtime.data.dataset import Clip, load_dataset
from wan_runtime.data.latents import EncodedClip, Entry, Latents, load_latents
from wan_runtime.models.digest import canonical_json
from wan_runtime.process.outcome import Outcome


def gather(job: JobSpec, store: Store, work: Path, parts: list[ManifestRef]) -> Outcome:
    """Commit the list of all entries, in the order of an encode step that takes all clips.

    Raises ArtifactCorrupt if a clip is in no part, or the parts are of different encoders.
    """
    dataset = load_dataset(store, prepared(job))
    clips = [*dataset.train, *dataset.held_out]
    encoders = {manifest.load(store, ref).lineage.base_weights for ref in parts}
    if len(encoders) != 1:
        raise ArtifactCorrupt("the parts of the latents are of different encoders")
    made = [load_latents(store, ref, work / f"part{n}") for n, ref in enumerate(parts)]
    entries = {(clip.path, clip.start): clip for part in made for clip in part.clips}
    missing = [clip.path for clip in clips for start in clip.starts
               if (clip.path, start) not in entries]  # fmt: skip
    if missing:
        raise ArtifactCorrupt(f"no part has the latents of {missing[0]}")
    texts = _current(store, made)
    listing = Latents(
        clips=tuple(
            _with_text(entries[clip.path, start], texts) for clip in clips for start in clip.starts
        ),
        empty_text=texts[made[0].empty_text.key],
        negative_text=texts[made[0].negative_text.key],
    )
    message = f"{len(clips)} clips in the latent cache, from {len(parts)} parts"
    return commit_listing(job, store, work, clips, listing, str(encoders.pop()), message)


def commit_listing(
    job: JobSpec,
    store: Store,
    work: Path,
    clips: list[Clip],
    listing: Latents,
    encoders: str,
    message: str,
) -> Outcome:
    """Commit latents.json. `encoders`: digest of what encoded."""
    path = work / latents.FILE
    path.write_bytes(canonical_json(listing.model_dump(mode="json", by_alias=True)))
    summary = {
        "clips": len(clips),
        TRAINED_CLIPS: len(listing.train),
        HELD_OUT_CLIPS: len(listing.held_out),
    }
    lineage = Lineage.of(job, base_weights=encoders, dataset=prepared(job).sha256)
    ref = manifest.commit(
        store,
        job.output_prefix,
        {latents.FILE: path},
        kind="latents",
        summary=summary,
        lineage=lineage,
    )
    return Outcome(manifest=ref, message=message, summary=summary)


def _current(store: Store, parts: Iterable[Latents]) -> dict[str, Entry]:
    """Entries of all captions by key, as they are now: parts that share a caption may both have
    stored it, and on a GPU not to the same bit."""
    keys = {clip.text.key for part in parts for clip in part.clips}
    keys |= {entry.key for part in parts for entry in (part.empty_text, part.negative_text)}
    found = {key: latents.find(store, key) for key in sorted(keys)}
    if lost := [key for key, entry in found.items() if entry is None]:
        raise ArtifactCorrupt(f"{store.uri(lost[0])} is gone")
    return {key: entry for key, entry in found.items() if entry is not None}


def _with_text(clip: EncodedClip, texts: dict[str, Entry]) -> EncodedClip:
    return clip.model_copy(update={"text": texts[clip.text.key]})
