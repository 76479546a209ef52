"""How far a browser's frames are from the rendered ones; what writing them and reading photos
costs.

`PYTHONPATH=operator:runtime:tests python tests/colours_bench.py [FILE]`. FILE is an earlier
`media.py`, measured in the same run.
"""

from __future__ import annotations

import importlib.util
import io
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import videos
from colours import off, pictures
from photos import DISPLAY_P3, encoded, rgb_profile
from screen import CHROMIUM, GPU, SANDBOX, Screen
from wan_runtime.data.picture import cut, read
from wan_runtime.rendering import media

SIZES = ((1280, 720), (832, 480), (480, 832))
TURNS = 4
BROWSERS = {"GPU": GPU, "no GPU": ("--disable-gpu",)}


def main(writers: dict[str, Any], path: Path) -> None:
    for (name, writer), (browser, options), size in product(
        writers.items(), BROWSERS.items(), SIZES
    ):
        told = _differences(writer, options, size, path)
        print(f"{name}, {browser}, {size[0]}x{size[1]}: {told}")
    whole = [Image.fromarray(frame) for frame in videos.pixels("bigbuckbunny", 81)]
    for width, height in SIZES[:2]:
        frames = np.stack([np.asarray(cut(frame, width, height)) for frame in whole])
        for _, (name, writer) in product(range(TURNS), writers.items()):
            started = time.process_time()
            writer.write_mp4(frames, path, 16)
            spent, size_mb = time.process_time() - started, path.stat().st_size / 1e6
            print(f"{name}, 81 frames of {width}x{height}: {spent:.2f} s, {size_mb:.2f} MB")


def photos() -> None:
    """Of 12 megapixels, cut to 1280x720: decoding alone, and with all that `read` does."""
    photo = Image.fromarray(videos.pixels("bigbuckbunny", 1)[0]).resize((4000, 3000))
    for name, icc in (("no profile", b""), ("Display P3", rgb_profile(DISPLAY_P3))):
        data = encoded(photo, "JPEG", icc_profile=icc)
        ways: dict[str, Callable[[bytes], Image.Image]] = {"Pillow": _plain, "read": read}
        for _, (way, opened) in product(range(TURNS), ways.items()):
            started = time.process_time()
            cut(opened(data), 1280, 720)
            print(f"{name}, {way}: {time.process_time() - started:.2f} s")


def _plain(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _differences(writer: Any, options: tuple[str, ...], size: tuple[int, int], path: Path) -> str:
    made = pictures(*size)
    writer.write_mp4(np.stack(list(made.values())), path, 2)
    times = [0.25 + index / 2 for index in range(len(made))]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*options, *SANDBOX])
        seen = Screen(browser.new_page()).video(path.read_bytes(), times)
        browser.close()
    return ", ".join(
        f"{kind} {off(*pair):.1f}" for kind, *pair in zip(made, made.values(), seen, strict=True)
    )


def _load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("earlier_film", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        earlier = {"earlier": _load(sys.argv[1])} if len(sys.argv) > 1 else {}
        photos()
        main({**earlier, "now": media}, Path(folder) / "video.mp4")
