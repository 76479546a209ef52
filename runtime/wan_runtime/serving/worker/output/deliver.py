"""From frames to files in the bucket: mp4 and pictures. No GPU, no torch."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.artifacts.store import Store, file_sha256
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError
from wan_runtime.serving.worker.output.order import FILES, VIDEO, Cut

WRITE_SECONDS = 3600.0
"""Longest time that writing a video may take: it takes seconds."""
TYPES = {
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """In the bucket."""

    files: dict[str, str]
    """Variant -> key."""
    bytes: int
    sha256: str
    """SHA-256 of the video."""


async def deliver(store: Store, prefix: str, folder: Path) -> Delivered:
    """Upload the files below `prefix`: a repeat takes the same keys.

    Raises:
        InfrastructureError: of the store.
    """
    keys = {variant: f"{prefix}/{name}" for variant, name in FILES.items()}

    def upload() -> None:
        for variant, key in keys.items():
            path = folder / FILES[variant]
            store.put_bytes(key, path.read_bytes(), content_type=TYPES[path.suffix])

    await asyncio.to_thread(upload)
    video = folder / FILES[VIDEO]
    return Delivered(keys, video.stat().st_size, file_sha256(video))


async def write(cut: Cut) -> None:
    """The files, by a process of its own.

    Raises:
        InfrastructureError: if they cannot be written.
    """
    spec = Path(cut.folder) / "cut.json"
    spec.write_text(cut.model_dump_json(by_alias=True))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "wan_runtime.serving.worker.output.write", str(spec)),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            _, said = await process.communicate()
    except TimeoutError:
        text = f"the video was not written within {WRITE_SECONDS:.0f} s"
        raise InfrastructureError(Reason.UNEXPECTED, text) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise InfrastructureError(
            Reason.UNEXPECTED, f"the video was not written: {lines[-1] if lines else 'killed'}"
        )
