"""What is done with videos once they are made, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from studio_page import Studio, clip

pytest_plugins = ["gateway_fixtures", "studio_fixtures"]


def test_a_remix_keeps_all_but_the_prompt(studio: Studio) -> None:
    studio.ready()
    studio.made("a cat jumps").get_by_role("button", name="Remix").click()
    asked = studio.page.get_by_role("dialog", name="Remix")
    prompt = asked.get_by_label("What happens instead")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("a cat jumps")
    prompt.fill("")
    asked.get_by_role("button", name="Make remix").click()
    expect(asked.get_by_role("alert")).to_contain_text("prompt: is empty")
    prompt.fill("a cat sleeps")
    asked.get_by_role("button", name="Make remix").click()
    expect(studio.card("a cat sleeps")).to_contain_text("Waiting")
    job = studio.hands.claim()
    assert (job.order.prompt, job.remixed_from is None) == ("a cat sleeps", False)


def test_deleting_asks_first(studio: Studio) -> None:
    studio.ready()
    card = studio.made("a cat jumps")
    card.get_by_role("button", name="Delete").click()
    asked = studio.page.get_by_role("dialog", name="Delete this video?")
    expect(asked.get_by_role("button", name="Keep")).to_be_focused()
    studio.page.keyboard.press("Escape")
    expect(asked).to_have_count(0)
    expect(card.get_by_role("button", name="Delete")).to_be_focused()
    card.get_by_role("button", name="Delete").click()
    asked.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    expect(studio.page.get_by_role("heading", name="Videos")).to_be_focused()
    with studio.gateway.http() as http:
        assert http.get("/v1/videos").json()["data"] == []


def test_two_play_as_one(studio: Studio) -> None:
    studio.ready()
    for prompt in ("a cat jumps", "a dog runs"):
        studio.made(prompt, clip(frames=81)).get_by_label("Compare").check()
    studio.page.get_by_role("button", name="Compare side by side").click()
    both = studio.page.get_by_role("dialog", name="Compare")
    position = both.get_by_label("Position")
    expect(both.get_by_role("button", name="Play both")).to_be_focused()
    players = "[...document.querySelectorAll('dialog video')]"
    times = f"{players}.map((each) => each.currentTime)"
    studio.until(f"{players}.every((each) => each.duration > 0)")
    position.fill("0.5")
    first, second = studio.page.evaluate(times)
    assert first == second > 2
    both.get_by_role("button", name="Play both").click()
    studio.until(f"{times}.every((time) => time > {first} + 0.5)")
    both.get_by_role("button", name="Pause both").click()
    first, second = studio.page.evaluate(times)
    assert abs(first - second) < 0.1
    both.get_by_role("button", name="Close").click()
    expect(both).to_have_count(0)


def test_a_download_is_the_video(studio: Studio, tmp_path: Path) -> None:
    studio.ready()
    video = clip()
    card = studio.made("a cat jumps", video)
    with studio.page.expect_download() as saved:
        card.get_by_role("button", name="Download").click()
    saved.value.save_as(tmp_path / "saved.mp4")
    assert (tmp_path / "saved.mp4").read_bytes() == video
    assert saved.value.suggested_filename == f"{card.get_attribute('data-id')}.mp4"


def test_a_frame_becomes_the_next_first_frame(studio: Studio) -> None:
    studio.ready()
    studio.made().get_by_role("button", name="Use frame").click()
    expect(studio.page.locator(".zone")).to_contain_text("Frame of a video, cut to 128x96")


def test_fetched_bytes_are_freed(studio: Studio) -> None:
    studio.page.add_init_script(
        """window.held = new Set();
        const {createObjectURL, revokeObjectURL} = URL;
        URL.createObjectURL = (blob) => {
            const url = createObjectURL(blob);
            held.add(url);
            return url;
        };
        URL.revokeObjectURL = (url) => { held.delete(url); revokeObjectURL(url); };"""
    )
    studio.ready()
    for number in range(6):
        card = studio.made(f"cat {number}")
        card.get_by_role("button", name="Play").click()
        expect(card.locator("video")).to_be_visible()
    studio.until("held.size === 4")
    expect(studio.page.locator(".card video")).to_have_count(4)
    studio.page.get_by_role("button", name="Forget key").click()
    assert studio.page.evaluate("held.size") == 0


def test_many_unfinished_ones_leave_room_for_requests(studio: Studio) -> None:
    # A browser opens six connections to a host: eight streams would stop everything else.
    studio.ready()
    for number in range(8):
        studio.submit(f"cat {number}")
    for _ in range(8):
        studio.hands.complete(studio.hands.claim(), clip())
    for number in range(8):
        expect(studio.card(f"cat {number}")).to_contain_text("Done")


def test_older_videos_come_page_by_page(studio: Studio) -> None:
    studio.ready()
    for number in range(14):
        studio.submit(f"cat {number}")
    studio.page.reload()
    cards = studio.page.locator(".card")
    expect(cards).to_have_count(12)
    studio.page.get_by_role("button", name="Show older videos").click()
    expect(cards).to_have_count(14)
    expect(studio.page.get_by_role("button", name="Show older videos")).to_be_hidden()
