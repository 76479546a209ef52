"""The rating page in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from rating_panels import Material, RunningPage
from screen import PATIENCE_MS
from studio_page import DESKTOP, until
from unit.serving.test_studio_look import CONTRAST
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import Store

pytest_plugins = ["studio_fixtures"]

PHONE = {"width": 390, "height": 844}


@dataclass
class Device:
    """A page, and what it did that it must not."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.faults.append(f"{error}"))
        self.page.on("console", lambda message: self._said(message.type, message.text))
        self.page.on("request", lambda request: self._went(request.url))

    def _said(self, kind: str, text: str) -> None:
        # Chromium says so of each refusal and outage, which the page shows itself.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.faults.append(text)

    def _went(self, url: str) -> None:
        if not url.startswith(self.url):
            self.faults.append(f"a request to {url[:80]}")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def heading(self, text: str) -> None:
        expect(self.page.get_by_role("heading", level=2)).to_have_text(text)

    def fits(self) -> None:
        """Nothing sticks out to the right."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


class Devices:
    """Browsers with nothing in common."""

    def __init__(self, chromium: Browser) -> None:
        self._chromium, self.made = chromium, list[Device]()

    def open(self, running: RunningPage, url: str, size: Any = DESKTOP, **context: Any) -> Device:
        page = self._chromium.new_context(viewport=size, **context).new_page()
        self.made.append(Device(page, running.url))
        page.goto(url)
        return self.made[-1]


@pytest.fixture
def devices(chromium: Browser) -> Iterator[Devices]:
    devices = Devices(chromium)
    yield devices
    for device in devices.made:
        device.page.context.close()
        assert device.faults == []


@pytest.fixture(scope="module")
def material(server: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        store = Store.connect(server.spec(), patience=Patience(seconds=1))
        folder = tmp_path_factory.mktemp("videos")
        yield Material(store, f"rating-{uuid4().hex[:8]}", folder)


PLAYS = "[...document.querySelectorAll('video')].every(each => !each.paused && each.readyState > 1)"


def test_all_is_judged_by_keyboard_on_a_phone(
    material: Material, devices: Devices, pictures: Path
) -> None:
    with RunningPage(material.panel("keyboard")) as running:
        device = devices.open(running, running.link("ann"), PHONE)
        page, saved = device.page, running.panel.judgements.of("ann")
        device.heading("Video 1 of 4")
        expect(page.get_by_text("<b>picture</b>")).to_be_visible()
        device.press("?")
        expect(page.get_by_role("dialog", name="How to rate")).to_be_visible()
        device.press("Escape")
        until(page, PLAYS)
        device.press(" ")
        expect(page.get_by_role("button", name="Play")).to_be_visible()
        assert page.locator("video").evaluate("each => each.paused")
        device.press("Enter")
        status = page.get_by_role("status")
        expect(status).to_contain_text("Still to judge: Dynamics, Camera control, Frame quality")
        device.press("4", "3", "5", "2")
        expect(page.get_by_label("The main things", exact=False)).not_to_be_checked()
        assert page.evaluate("document.activeElement.matches('input:focus-visible')")
        device.press("ArrowUp")
        page.screenshot(path=pictures / "rating-phone.png", full_page=True)
        device.fits()
        device.press("Enter")
        device.heading("Video 2 of 4")
        expect(page.get_by_text("1 of 4 saved")).to_be_visible()
        (first,) = saved.values()
        assert first.scores == {  # type: ignore[union-attr]
            "dynamics": 4, "camera_control": 3, "frame_quality": 5, "accuracy": 1
        }  # fmt: skip
        device.press("1", "ArrowRight", "ArrowRight")
        assert page.evaluate("document.activeElement.closest('fieldset').textContent").startswith(
            "Accuracy"
        )
        page.reload()
        device.heading("Video 2 of 4")
        expect(page.get_by_role("radio", name="1 Nothing moves")).to_be_checked()
        device.press("2", "3", "4", "Enter")
        device.heading("Video 3 of 4")

        other = devices.open(running, running.link("ann"), DESKTOP)
        other.heading("Video 3 of 4")
        other.press("N")
        other.heading("Video 4 of 4")
        other.press("5", "5", "5", "5", "Enter")
        other.heading("Video 3 of 4")
        other.press("5", "5", "5", "5", "Enter")
        other.heading("All is saved. Thank you!")
        other.press("B")
        other.heading("Video 4 of 4")
        other.press("1", "Enter")
        other.heading("All is saved. Thank you!")
        assert len(saved) == 4
        assert running.saved == 5, "the last one was changed"
        # What the phone says later is newer.
        device.press("1", "1", "1", "1", "Enter")
        device.heading("Video 4 of 4")
        assert len(saved) == 4


def test_an_outage_keeps_the_choice(material: Material, devices: Devices, pictures: Path) -> None:
    panel = material.panel("outage", mode="Pairs")
    with RunningPage(panel) as running:
        device = devices.open(running, running.link("ann"))
        device.heading("Pair 1 of 2")
        until(device.page, PLAYS)
        apart = "Math.abs(" + " - ".join(f"players[{n}].currentTime" for n in (0, 1)) + ")"
        until(device.page, f"(players => {apart} < 0.1)(document.querySelectorAll('video'))")
        device.fits()
        device.press("ArrowRight")
        expect(device.page.get_by_label("The right one is better")).to_be_checked()
        device.page.screenshot(path=pictures / "rating-pairs.png", full_page=True)
    device.press("Enter")
    status = device.page.get_by_role("status")
    expect(status).to_contain_text("The server does not answer. Your choice is kept here")
    device.page.screenshot(path=pictures / "rating-outage.png")
    assert device.page.locator("fieldset").evaluate("each => each.disabled"), "it stays as it is"
    expect(device.page.get_by_role("button", name="Send now")).to_be_visible()
    with RunningPage(panel, running.port) as again:
        device.heading("Pair 2 of 2")
        expect(device.page.get_by_text("1 of 2 saved")).to_be_visible()
        # As if the page had been left while it was sent.
        second = panel.plan["ann"][1].id
        left = '{"answer": {"chosen": "Tie"}, "sent": true}'
        device.page.evaluate(
            "each => localStorage.setItem(...each)", [f"wan-rating-{second}", left]
        )
        device.page.reload()
        device.heading("All is saved. Thank you!")
        assert again.saved == 2
        assert device.page.evaluate("localStorage.length") == 0
    chosen = {each.chosen for each in panel.judgements.ratings().choices}
    assert chosen == {"Right", "Tie"}


def test_a_video_that_does_not_come_is_tried_again(material: Material, devices: Devices) -> None:
    with RunningPage(material.panel("broken")) as running:
        device = devices.open(running, running.url)
        device.page.route("**/media/*/0.mp4", lambda route: route.fulfill(status=404), times=1)
        device.page.goto(running.link("ann"))
        wrong = device.page.get_by_role("alert").filter(has_text="This video does not load")
        expect(wrong).to_be_visible()
        until(device.page, PLAYS)
        expect(wrong).to_have_count(0)


def test_links_and_progress(material: Material, devices: Devices, pictures: Path) -> None:
    with RunningPage(material.panel("links")) as running:
        url = running.link("ann")
        device = devices.open(running, url[:-2] + "/", PHONE)
        expect(device.page.get_by_role("heading")).to_have_text("This link is not known")
        device.page.goto(running.url)
        expect(device.page.get_by_role("heading")).to_have_text("Wan ratings")
        assert device.page.evaluate("getComputedStyle(document.body).marginTop") == "0px"
        url = f"{running.url}/admin/{running.panel.links.admin}/"
        calm = {"color_scheme": "dark", "reduced_motion": "reduce"}
        admin = devices.open(running, url, **calm)
        expect(admin.page.get_by_role("listitem")).to_have_count(2)
        expect(admin.page.get_by_role("listitem").first).to_contain_text("0 of 4")
        admin.page.screenshot(path=pictures / "rating-progress.png")
        admin.page.get_by_role("link", name="Link of bob").click()
        admin.heading("Video 1 of 4")
        admin.page.screenshot(path=pictures / "rating-dark.png", full_page=True)
        for name in ("Light colours", "Dark colours"):
            found = admin.page.evaluate(CONTRAST)
            assert [each for each in found if each[0] < 4.5] == []
            assert len(found) > 30
            admin.page.get_by_role("button", name=name).click()
        assert admin.page.url == running.link("bob")
        assert admin.page.locator("video").evaluate("each => each.paused"), (
            "nothing moves by itself"
        )
