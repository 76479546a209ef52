#!/usr/bin/env bash
# FFmpeg 8.1 (PyAV 18.1.0), demuxer gif: the options min_delay (default 2 hundredths of a second) and
# default_delay (10) have no effect: frames with a delay of 1 last 10 ms, where browsers show them for 100.
# Guessed: a delay below min_delay becomes default_delay, as the options' texts say.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io

import av
from PIL import Image

pictures, file = [Image.new("L", (64, 64), 20 * number) for number in range(10)], io.BytesIO()
pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=10, loop=0)
data = file.getvalue()
assert data.count(b"\x21\xf9\x04") == 10, "a frame lacks its delay"


def times(**options: str) -> list[float]:
    with av.open(io.BytesIO(data), options=options) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


plain, asked = times(), times(min_delay="5", default_delay="10")
print(f"PyAV {av.__version__}, libavformat {av.library_versions['libavformat']}")
print(f"ten frames with a delay of 10 ms, by default: {plain}")
print(f"with min_delay=5, default_delay=10:           {asked}")
assert plain == asked and abs(plain[-1] - 0.09) < 1e-6, "the behaviour has changed"
PY
