#!/usr/bin/env bash
# PyAV 18.1.0: a transparent WebM (VP9) whose packets and metadata are copied into another WebM or into
# Matroska, as a trim without encoding does, names its transparency ALPHA_MODE in the stream's metadata,
# where the first file has alpha_mode. Who asks for the first name decodes the copy as opaque, and
# shows what transparency hid.
# Guessed: a copy's metadata has the names that the source's has.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np


def written() -> None:
    """Five frames of red, the left half of which is transparent."""
    with av.open("made.webm", "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
        picture = np.zeros((48, 64, 4), np.uint8)
        picture[..., 0], picture[:, 32:, 3] = 255, 255
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(picture, "rgba").reformat(format="yuva420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def copied(source: str, target: str) -> None:
    with av.open(source) as before, av.open(target, "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        stream.metadata.update(before.streams.video[0].metadata)
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)


def names(path: str) -> list[str]:
    with av.open(path) as container:
        return [name for name in container.streams.video[0].metadata if name.lower() == "alpha_mode"]


written()
copied("made.webm", "webm.webm")
copied("made.webm", "matroska.mkv")
copied("matroska.mkv", "back.webm")
print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
found = {path: names(path) for path in ("made.webm", "webm.webm", "matroska.mkv", "back.webm")}
for path, name in found.items():
    print(path, *name)
assert found.pop("made.webm") == ["alpha_mode"], "the behaviour has changed"
assert all(each == ["ALPHA_MODE"] for each in found.values()), "the behaviour has changed"
PY
