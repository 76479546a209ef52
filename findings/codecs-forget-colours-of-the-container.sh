#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0): where an MKV says BT.2020 and PQ, and the codec inside says nothing, frames
# of VP9 lose the matrix and those of HEVC and ProRes matrix, primaries and transfer, as soon as one is decoded:
# who converts by the frame's tags shows HDR as SDR. H.264 and AV1 keep them. Those of VP8 have the
# matrix of BT.601, whatever the file says. Guessed: a codec that says nothing leaves what the
# container says; before the first frame, the codec context has it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2>/dev/null
import av
import numpy as np

CODECS = {
    "libvpx": ("yuv420p", {}),
    "libvpx-vp9": ("yuv420p", {}),
    "libx265": ("yuv420p", {"x265-params": "log-level=none"}),
    "prores_ks": ("yuv422p10le", {}),
    "libx264": ("yuv420p", {}),
    "libsvtav1": ("yuv420p", {}),
}


def written(codec: str) -> None:
    """Grey frames by an encoder that is told nothing of colours."""
    form, options = CODECS[codec]
    with av.open("plain.mkv", "w") as container:
        stream = container.add_stream(codec, rate=16)
        stream.width, stream.height, stream.pix_fmt, stream.options = 128, 96, form, options
        grey = np.full((96, 128, 3), 90, np.uint8)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format=form)))
        container.mux(stream.encode(None))


def tagged() -> None:
    """The same packets, in a file that says BT.2020 and PQ."""
    with av.open("plain.mkv") as before, av.open("tagged.mkv", "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0], opaque=True)
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16
        for packet in before.demux(video=0):
            if packet.size:
                packet.stream = stream
                after.mux(packet)


print(f"PyAV {av.__version__}, libavcodec {av.library_versions['libavcodec']}")
print("matrix, primaries, transfer")
found = {}
for codec in CODECS:
    written(codec)
    tagged()
    with av.open("tagged.mkv") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        before = context.colorspace, context.color_primaries, context.color_trc
        frame = next(container.decode(stream))
        found[codec] = tuple(map(int, (frame.colorspace, frame.color_primaries, frame.color_trc)))
    print(f"{codec}: {before} in the file, {found[codec]} in the frame")
    assert before == (9, 9, 16), "the file does not say it"
assert found == {
    "libvpx": (5, 9, 16),
    "libvpx-vp9": (2, 9, 16),
    "libx265": (2, 2, 2),
    "prores_ks": (2, 2, 2),
    "libx264": (9, 9, 16),
    "libsvtav1": (9, 9, 16),
}, "the behaviour has changed"
PY
