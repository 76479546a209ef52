"""Makes docs/rating.webp, a picture of the page on which people rate.

    PYTHONPATH=runtime:tests:e2e python tests/rating_picture.py

The videos are a cut of Big Buck Bunny (© Blender Foundation, CC BY 3.0), once as it is and once
blurred, in a real Chromium. MinIO has to be on PATH.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from rating_panels import Material, RunningPage
from screen import CHROMIUM, SANDBOX
from studio_page import until
from videos import pixels
from wan_runtime.artifacts.store import Store

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "rating.webp"
PROMPT = "a big grey rabbit steps out of his burrow and looks at a butterfly"
SIZE, FRAMES = (640, 360), 24
VIEW = {"width": 1180, "height": 800}


def film(clip: int, candidate: int) -> NDArray[np.uint8]:
    """Frames of a candidate, of which the second is blurred."""
    start = 5 * clip
    frames = [cv2.resize(each, SIZE) for each in pixels("bigbuckbunny", start + FRAMES)[start:]]
    blurred = [cv2.GaussianBlur(each, (0, 0), 1.5) for each in frames]
    return np.stack(blurred if candidate else frames)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        ObjectStore(Path(name) / "store") as server,
        sync_playwright() as playwright,
    ):
        os.environ |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        store = Store.connect(server.spec())
        material = Material(store, "rating", Path(name), clips=6, film=film)
        material.clips = [each.model_copy(update={"prompt": PROMPT}) for each in material.clips]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SANDBOX)
        with RunningPage(material.panel("picture")) as running:
            page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
            page.goto(running.link("ann"))
            judge(page)
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            picture.save(OUT, quality=70, method=6)
        browser.close()


def judge(page: Page) -> None:
    """Two videos, and part of the third."""
    for number in (1, 2):
        expect(page.get_by_role("heading", level=2)).to_have_text(f"Video {number} of 12")
        for key in ("4", "3", "5", "4", "Enter"):
            page.keyboard.press(key)
    expect(page.get_by_role("heading", level=2)).to_have_text("Video 3 of 12")
    until(page, "document.querySelector('video').readyState > 2")
    for key in ("4", "3"):
        page.keyboard.press(key)
    page.keyboard.press(" ")


if __name__ == "__main__":
    main()
