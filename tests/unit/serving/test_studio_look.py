"""Keyboard, phone width, colours, and what the page's policy forbids, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from running_gateway import KEYS
from studio_page import DESKTOP, PHONE, PLAIN_HOST, Studio, clip
from unit.serving.test_pictures import picture

pytest_plugins = ["gateway_fixtures", "studio_fixtures"]

CONTRAST = """() => {
    const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const parts = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const light = (color) => {
        const [r, g, b] = color.slice(0, 3).map((each) => each / 255)
            .map((each) => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const color = parts(getComputedStyle(each).backgroundColor);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255, 255];
    };
    const found = [];
    for (const element of document.body.querySelectorAll("*")) {
        const own = [...element.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
        const typed = element.matches("input, select, textarea");
        if (!(own || typed) || !element.checkVisibility()) continue;
        const pair = [light(parts(getComputedStyle(element).color)), light(ground(element))];
        const [dark, bright] = pair.sort((a, b) => a - b);
        const ratio = (bright + 0.05) / (dark + 0.05);
        found.push([ratio, element.tagName + "." + element.className + " " + element.textContent]);
    }
    return found;
}"""


def filled(studio: Studio) -> None:
    """A page with a video in each state, everything open and an error."""
    studio.ready()
    card = studio.made("a cat jumps over " + "a-word-without-end-" * 2)
    card.get_by_label("Compare").check()
    studio.made("a dog runs", clip())
    studio.submit("a lake at night")
    studio.hands.fail(studio.hands.claim(), "not_finite", "sampling gave NaN")
    studio.submit("a street in the rain")
    job = studio.hands.claim()
    studio.hands.advance(job, 3)
    expect(studio.card("a street in the rain")).to_contain_text("step 3 of 4")
    studio.submit("a waterfall")
    studio.page.get_by_label("Effect").select_option("anime-fairy")
    studio.page.get_by_text("Advanced").click()
    studio.page.get_by_label("Steps").fill("0")
    fault = studio.page.get_by_role("alert").filter(has_text="must be at least 1")
    expect(fault).to_be_visible()
    expect(studio.page.locator(".play img")).to_have_count(2)


def test_a_video_is_made_by_keyboard_alone(studio: Studio) -> None:
    keyboard, page = studio.page.keyboard, studio.page
    page.goto(studio.gateway.url)
    expect(page.get_by_label("API key")).to_be_focused()
    keyboard.type(KEYS["app"])
    keyboard.press("Enter")
    expect(page.get_by_role("heading", name="New video")).to_be_visible()

    def tab_to(label: str, limit: int = 30) -> None:
        for _ in range(limit):
            keyboard.press("Tab")
            assert page.evaluate(
                """() => {
                    const active = document.activeElement;
                    const file = active.matches("[type=file]");
                    const shown = file ? active.nextElementSibling : active;
                    return getComputedStyle(shown).outlineStyle === "solid";
                }"""
            ), "what has the focus shows it"
            if page.get_by_label(label).evaluate("each => each === document.activeElement"):
                return
        raise AssertionError(f"no way to {label}")

    tab_to("First frame")
    # Not the chooser itself: whether Chromium opens one is up to how long ago the key was hit.
    page.evaluate(
        """() => document.activeElement.addEventListener("click", (event) => {
            setTimeout(() => { window.asked = event.isTrusted && !event.defaultPrevented; });
        })"""
    )
    keyboard.press("Enter")
    studio.until("window.asked")
    studio.give(picture())
    tab_to("What happens")
    keyboard.type("a bird flies")
    keyboard.press("Control+Enter")
    expect(studio.card("a bird flies")).to_contain_text("Waiting")


@pytest.mark.parametrize(("viewport", "theme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_it_fits_and_can_be_read(
    make_studio: Callable[..., Studio], pictures: Path, viewport: dict[str, int], theme: str
) -> None:
    studio = make_studio(viewport=viewport, context={"color_scheme": theme})
    filled(studio)
    name = f"{theme}-{viewport['width']}"
    studio.page.screenshot(path=pictures / f"{name}.png", full_page=True)
    shown = studio.page.evaluate(CONTRAST)
    assert len(shown) > 60
    assert min(shown)[0] >= 4.5, min(shown)
    width = studio.page.evaluate("document.documentElement.scrollWidth")
    assert width == viewport["width"]
    studio.card("a dog runs").get_by_role("button", name="Remix").click()
    expect(studio.page.get_by_role("dialog")).to_be_visible()
    studio.page.screenshot(path=pictures / f"{name}-remix.png")
    assert studio.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    assert min(studio.page.evaluate(CONTRAST))[0] >= 4.5
    studio.page.keyboard.press("Escape")
    studio.card("a dog runs").get_by_label("Compare").check()
    studio.page.get_by_role("button", name="Compare side by side").click()
    expect(studio.page.get_by_role("button", name="Play both")).to_be_focused()
    studio.page.screenshot(path=pictures / f"{name}-compare.png")


COVERED = """(by) => {
    const covers = [...document.querySelectorAll(by)].map((each) => each.getBoundingClientRect());
    return [...document.querySelectorAll("h1, h2, .tray")].filter((title) => {
        const box = title.getBoundingClientRect();
        return covers.some((over) => over.width && box.width && over.left < box.right
            && box.left < over.right && over.top < box.bottom && box.top < over.bottom);
    }).map((title) => title.textContent);
}"""


def test_what_is_said_covers_no_title_on_a_phone(
    make_studio: Callable[..., Studio], pictures: Path
) -> None:
    studio = make_studio(viewport={"width": 390, "height": 844})
    # By plain HTTP from another machine, where browsers have more to complain of.
    studio.gateway.url = studio.gateway.url.replace("127.0.0.1", PLAIN_HOST)
    studio.ready()
    card = studio.made()
    said = studio.page.get_by_role("status").filter(has_text="is done")
    expect(said).to_be_visible()
    studio.page.evaluate("scrollTo(0, 0)")
    assert studio.page.evaluate(COVERED, ".spoken p") == []
    studio.page.screenshot(path=pictures / "phone-said.png")
    card.get_by_label("Compare").check()
    studio.made("a dog runs").get_by_label("Compare").check()
    expect(said.filter(has_text="a dog runs")).to_be_visible()
    assert studio.page.evaluate(COVERED, ".spoken p") == []
    studio.page.screenshot(path=pictures / "phone-tray.png")


def test_colours_are_chosen_and_kept(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(context={"color_scheme": "light"})
    studio.ready()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = studio.page.evaluate(ground)
    studio.page.get_by_role("button", name="Dark colours").click()
    dark = studio.page.evaluate(ground)
    assert dark != light
    studio.page.reload()
    assert studio.page.evaluate(ground) == dark
    expect(studio.page.get_by_role("button", name="Light colours")).to_be_visible()


def test_all_controls_have_names(studio: Studio) -> None:
    filled(studio)
    controls = studio.page.locator("button, input, select, textarea, video, progress")
    for control in controls.all():
        if control.is_visible():
            named = control.aria_snapshot()
            assert '"' in named, named


def test_nothing_that_users_write_is_markup(studio: Studio) -> None:
    studio.ready()
    prompt = "<img src=x onerror=alert(1)><b>bold</b>"
    card = studio.submit(prompt)
    expect(card.get_by_role("heading")).to_have_text(prompt)


def test_inline_scripts_do_not_run(studio: Studio) -> None:
    studio.ready()
    studio.page.evaluate(
        """() => {
            document.addEventListener("securitypolicyviolation", (event) => {
                window.refused = event.effectiveDirective;
            });
            const script = document.createElement("script");
            script.append(document.createTextNode("window.ran = true"));
            document.body.append(script);
        }"""
    )
    studio.until("window.refused !== undefined")
    assert studio.page.evaluate("window.ran") is None
    assert studio.faults, "Chromium says so"
    studio.faults.clear()


def test_an_effect_shows_what_it_makes(make_studio: Callable[..., Studio]) -> None:
    effect = {"name": "waves", "prompt": "waves, {prompt}", "description": "Waves in a photo."}
    studio = make_studio(effects=[{**effect, "preview": "s3://wan/previews/waves.mp4"}])
    key = "previews/waves.mp4"
    studio.gateway.store.put_bytes(key, clip())
    studio.ready()
    studio.page.get_by_label("Effect").select_option("waves")
    shown = studio.page.get_by_label("See an example")
    expect(shown).to_be_visible()
    studio.until("document.querySelector('.example video').videoWidth === 128")
    expect(studio.page.get_by_text("Waves in a photo.")).to_be_visible()
