"""Files that are no LoRA of a Wan image-to-video transformer: what they are, and what helps."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from wan_runtime.models.adapters.layer_names import place_of

HELPS = "train it again as plain LoRA, or merge it into the model and serve that as full weights"
KINDS = {
    "DoRA": r"\.(dora_scale|lora_magnitude_vector\b.*)$",
    "LoHa": r"\.hada_\w+$",
    "LoKr": r"\.lokr_\w+$",
    "OFT or BOFT": r"\.(oft_\w+|boft_\w+)(\..*)?$",
    "GLoRA": r"\.[ab][12]\.weight$",
    "(IA)3": r"\.(on_input|ia3_l\b.*)$",
    "VeRA": r"\bvera_\w+",
    "LoCon with a Tucker core": r"\.lora_mid\b.*$",
}
"""Adapters that are no products of two factors, by the endings of their keys: as LyCORIS and peft
write them."""
ELSEWHERE = {
    "the text encoder, which is not adapted here": r"lora_te\d?_|text_encoder",
    "Wan VACE": r"vace_",
    "Wan Animate": r"\b(face_adapter|motion_encoder|pose_patch_embedding)\b",
    "Wan S2V": r"\b(audio_injector|casual_audio_encoder)\b",
    "Wan Fun Control": r"\b(control_adapter|ref_conv)\b",
    "Stable Diffusion": r"(down|up|mid|input|output|middle)_blocks?[._]",
    "Flux or HunyuanVideo": r"(double|single|single_transformer)_blocks[._]",
    "Qwen-Image, LTX-Video or a model like these": r"transformer_blocks[._]",
}
"""Other models, by a part of their layers' names."""
OPENINGS = {
    b"GGUF": "is a GGUF file, a quantised model: give the adapter as .safetensors",
    b"PK\x03\x04": "is a pickle of PyTorch, whatever its name: save it with safetensors",
    b"\x80": "is a pickle of PyTorch, whatever its name: save it with safetensors",
    b"version https://git-lfs": "is a pointer of Git LFS: run `git lfs pull`, and upload the file",
    b"<": "is a web page, not the file that it was to be downloaded from",
    b"\x1f\x8b": "is compressed with gzip: unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it",
    b"Rar!": "is a RAR archive: unpack it",
    b"{": "is JSON: give the .safetensors file beside it",
}
"""First bytes, and what the file is then."""


def opening(path: Path) -> str:
    """What a file is that safetensors cannot read."""
    size = path.stat().st_size
    if not size:
        return "is empty"
    with path.open("rb") as file:
        head = file.read(32)
        # Of a sound file they are the header's length, little-endian, and then the header.
        length = int.from_bytes(head[:8], "little")
        file.seek(8)
        header = file.read(length) if head[8:9] == b"{" and length < size else b""
    tensors = _promised(header)
    promised = 8 + length + tensors if head[8:9] == b"{" else 0
    if tensors and promised < size:
        return f"is damaged: it has {size} bytes, and its header says {promised}. Upload it again"
    if promised > size:
        return f"is cut off: it has {size} bytes, and its header says {promised}. Upload it again"
    starts = (text for start, text in OPENINGS.items() if head.startswith(start) and not header)
    return next(starts, "is no safetensors file, or a damaged one")


def _promised(header: bytes) -> int:
    """Bytes of tensors that a header says; 0 if it cannot be read."""
    try:
        entries = json.loads(header)
        return max(
            int(entry["data_offsets"][1]) for name, entry in entries.items() if name[0] != "_"
        )
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return 0


def of_kind(key: str) -> bool:
    """Whether it is a key of one of KINDS."""
    return any(re.search(ending, key) for ending in KINDS.values())


def kind_of(keys: Collection[str]) -> str:
    """What the keys belong to that cannot be read as LoRA; empty if nothing says so."""
    for kind, ending in KINDS.items():
        found = _matching(ending, keys)
        if found:
            return (
                f"is an adapter of the kind {kind}: {len(found)} of its {len(keys)} keys are like "
                f"{found[0]}. Only plain LoRA is read: {HELPS}"
            )
    for model, part in ELSEWHERE.items():
        found = [key for key in _matching(part, keys) if place_of(_stem(key)) is None]
        if found:
            return (
                f"is for another model: {len(found)} of its {len(keys)} keys, such as {found[0]}, "
                f"are of {model}"
            )
    whole = [key for key in keys if _is_whole(key)]
    if len(whole) > len(keys) / 2:
        return (
            f"holds whole weights, not an adapter: {len(whole)} of its {len(keys)} keys are like "
            f"{min(whole)}. A model is named as spec.model"
        )
    return ""


def _matching(pattern: str, keys: Iterable[str]) -> list[str]:
    return sorted(key for key in keys if re.search(pattern, key))


def _stem(key: str) -> str:
    return re.sub(r"\.(lora.*|alpha|diff\w*)$", "", key)


def _is_whole(key: str) -> bool:
    stem, _, ending = key.rpartition(".")
    return ending in ("weight", "bias") and ".lora" not in stem and place_of(stem) is not None
