"""The studio in a browser, before a real gateway with hands in the worker's place."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from playwright.sync_api import Locator, Page, expect

from running_gateway import KEYS, Hands, RunningGateway
from screen import PATIENCE_MS
from unit.serving.test_pictures import picture
from wan_runtime.rendering.media import write_mp4

PLAIN_HOST = "studio.example"
"""Name of loopback in the browser."""
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


def clip(width: int = 128, height: int = 96, frames: int = 17, fps: int = 16) -> bytes:
    """An mp4 as a worker makes them; its picture moves."""
    pixels = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        pixels[index] = (30, (60 + 8 * index) % 256, 160)
        pixels[index, height // 3 : height // 2, 4 * index : 4 * index + 24] = 240
    with NamedTemporaryFile(suffix=".mp4") as file:
        write_mp4(pixels, Path(file.name), fps)
        return Path(file.name).read_bytes()


def until(page: Page, condition: str) -> None:
    """Wait for an expression to hold. Playwright's own waiting needs eval(), which the page's
    policy forbids."""
    page.evaluate(
        f"""() => new Promise((done, fail) => {{
            const end = Date.now() + {PATIENCE_MS};
            const look = () => {{
                if ({condition}) done();
                else if (Date.now() > end) fail(new Error("it never came true"));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
    )


@dataclass
class Studio:
    """The page, and what it did that it must not."""

    page: Page
    gateway: RunningGateway
    hands: Hands
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}"))
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("request", lambda request: self._asked(request.url))
        # No window of Chromium's own ever comes up to choose a file in.
        self.page.on("filechooser", lambda _: None)

    def _said(self, kind: str, text: str) -> None:
        # Chromium says so of each refusal, which the page shows to the user itself.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.faults.append(text)

    def _asked(self, url: str) -> None:
        if not url.removeprefix("blob:").startswith(self.gateway.url):
            self.faults.append(f"a request to {url[:80]}")

    def enter(self, key: str = KEYS["app"]) -> None:
        """Through the door, to the form."""
        self.page.goto(self.gateway.url)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Enter").click()

    def ready(self) -> None:
        """Entered, and the estimate is there."""
        self.enter()
        expect(self.page.get_by_label("Estimate")).to_contain_text("of work")

    def give(self, photo: bytes) -> None:
        """A PNG as the first frame."""
        self.page.get_by_label("First frame").set_input_files(
            {"name": "cat.png", "mimeType": "image/png", "buffer": photo}
        )
        expect(self.page.locator(".zone canvas")).to_be_visible()

    def fill(self, prompt: str = "a cat jumps", photo: bytes | None = None) -> None:
        """The picture and the prompt."""
        self.give(photo or picture(400, 300))
        self.page.get_by_label("What happens").fill(prompt)

    def submit(self, prompt: str = "a cat jumps", photo: bytes | None = None) -> Locator:
        """Its card, waiting."""
        self.fill(prompt, photo)
        self.page.get_by_role("button", name="Make video").click()
        expect(self.card(prompt)).to_contain_text("Waiting")
        return self.card(prompt)

    def made(self, prompt: str = "a cat jumps", video: bytes | None = None) -> Locator:
        """Its card, done."""
        card = self.submit(prompt)
        self.hands.complete(self.hands.claim(), video or clip())
        expect(card).to_contain_text("Done")
        return card

    def until(self, condition: str) -> None:
        """Wait for an expression to hold."""
        until(self.page, condition)

    def card(self, prompt: str) -> Locator:
        """Of a video, by its prompt."""
        return self.page.get_by_role("listitem", name=prompt, exact=True)

    def field_of(self, fault: Locator) -> Locator:
        """The control that an error belongs to."""
        return self.page.locator(f"[aria-describedby~='{fault.get_attribute('id')}']")
