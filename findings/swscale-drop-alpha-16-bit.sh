#!/usr/bin/env bash
# libswscale 9.5 (PyAV 18.1.0): from gbrap16le to gbrp16le, which is the same planes without the last, only the left
# half of the last row of each slice is copied: of a frame of 128x96, columns 64 to 127 of its last row and, with several
# threads, of others. The rest is what the memory held. 8 bits (gbrap to gbrp) are right. Guessed: planes are copied
# whole, whatever their depth. A filter chain that removes the alpha of a ProRes 4444 clip in 16 bits meets it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np

WIDTH, HEIGHT = 128, 96


def planes(frame: av.VideoFrame, kind: type) -> list[np.ndarray]:
    size = np.dtype(kind).itemsize
    rows = [np.frombuffer(p, kind).reshape(p.height, p.line_size // size) for p in frame.planes]
    return [each[:, :WIDTH] for each in rows[:3]]


def wrong(packed: str, source: str, target: str, kind: type) -> tuple[list[int], list[int]]:
    """Rows and columns that differ in any plane."""
    top = np.iinfo(kind).max
    image = np.full((HEIGHT, WIDTH, 4), top, kind)
    image[..., :3] = np.random.default_rng(0).integers(1, top, (HEIGHT, WIDTH, 3))
    frame = av.VideoFrame.from_ndarray(image, format=packed).reformat(format=source)
    copied = planes(frame.reformat(format=target), kind)
    at = [np.argwhere(a != b) for a, b in zip(planes(frame, kind), copied, strict=True)]
    found = np.concatenate(at)
    return sorted({*found[:, 0].tolist()}), sorted({*found[:, 1].tolist()})


deep = wrong("rgba64le", "gbrap16le", "gbrp16le", np.uint16)
flat = wrong("rgba", "gbrap", "gbrp", np.uint8)
print(f"PyAV {av.__version__}, libswscale {av.library_versions['libswscale']}")
print(f"16 bits: wrong in rows {deep[0]}, columns {deep[1][0]} to {deep[1][-1]}; 8 bits: {flat}")
assert HEIGHT - 1 in deep[0] and len(deep[0]) < HEIGHT // 2, "the behaviour has changed"
assert deep[1][0] == WIDTH // 2, "the behaviour has changed"
assert flat == ([], []), "the behaviour has changed"
PY
