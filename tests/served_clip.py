"""Makes docs/served.webp, the clip of the front page: a photo, and what a service made of it.

    PYTHONPATH=runtime:tests:e2e python tests/served_clip.py

The photo is a frame of Big Buck Bunny (© Blender Foundation, CC BY 3.0). A gateway and a worker
serve it with Wan2.1-I2V-Tiny, by examples/make_video.py. MinIO has to be on PATH.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image, ImageOps

from clips import videos
from object_store import ObjectStore
from postgres import Postgres
from running_gateway import KEYS
from serving_processes import Whole

ROOT = Path(__file__).parents[1]
FRAME = 60
PROMPT = "a big grey rabbit in a meadow"
WIDTH, HEIGHT = 128, 96
SHOWN = (3 * WIDTH // 2, 3 * HEIGHT // 2)
GAP = 8
DEFAULTS = {"frames": 13, "steps": 20}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo, clip = folder / "photo.png", folder / "clip.mp4"
        with av.open(videos() / "bigbuckbunny.mp4") as film:
            frames = film.decode(video=0)
            picture = next(frame for number, frame in enumerate(frames) if number == FRAME)
            picture.to_image().save(photo)
        serve(folder, photo, clip)
        show(photo, clip, ROOT / "docs" / "served.webp")


def serve(folder: Path, photo: Path, clip: Path) -> None:
    """Writes the clip as a client fetches it."""
    sizes = [{"width": WIDTH, "height": HEIGHT}]
    (folder / "service").mkdir()
    with ObjectStore(folder / "store") as store, Postgres() as database:
        url = database.create("clip")
        service = Whole(folder / "service", store, url, sizes=sizes, defaults=DEFAULTS)
        try:
            gateway, http = service.start()
            service.start_worker()
            service.ready(gateway, http)
            command = [sys.executable, str(ROOT / "examples" / "make_video.py")]
            options = ["--url", str(http.base_url), "--key", KEYS["app"], "--out", str(clip)]
            subprocess.run([*command, str(photo), PROMPT, *options], check=True)
        finally:
            for process in service.running:
                process.kill()
                process.communicate()


def show(photo: Path, clip: Path, out: Path) -> None:
    """The photo as the model sees it beside the frames of the clip, both enlarged."""
    with av.open(clip) as film:
        frames = [frame.to_image().resize(SHOWN) for frame in film.decode(video=0)]
        rate = film.streams.video[0].average_rate
    assert rate is not None
    still = ImageOps.fit(Image.open(photo), (WIDTH, HEIGHT)).resize(SHOWN)
    pages = []
    for frame in frames:
        page = Image.new("RGBA", (2 * SHOWN[0] + GAP, SHOWN[1]))
        page.paste(still, (0, 0))
        page.paste(frame, (SHOWN[0] + GAP, 0))
        pages.append(page)
    durations = [round(1000 / rate)] * (len(pages) - 1) + [800]
    pages[0].save(out, save_all=True, append_images=pages[1:], duration=durations, loop=0)


if __name__ == "__main__":
    main()
