"""From the door to the player, in a real Chromium."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from orders import sign
from photos import DISPLAY_P3, encoded, rgb_profile
from running_gateway import KEYS
from studio_page import Studio, clip
from unit.serving.test_pictures import picture
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote

pytest_plugins = ["gateway_fixtures", "studio_fixtures"]


def test_a_wrong_key_is_told_at_its_field(studio: Studio) -> None:
    studio.enter("wan-key-of-nobody")
    fault = studio.page.get_by_role("alert").filter(has_text="this API key is not known")
    expect(studio.field_of(fault)).to_be_focused()
    assert studio.page.evaluate("sessionStorage.length") == 0
    studio.page.get_by_label("API key").fill("ключ")
    studio.page.get_by_role("button", name="Enter").click()
    expect(studio.page.get_by_role("alert").filter(has_text="plain ASCII")).to_be_visible()


def test_the_key_stays_in_the_tab(studio: Studio) -> None:
    studio.ready()
    studio.page.reload()
    expect(studio.page.get_by_role("heading", name="New video")).to_be_visible()
    held = studio.page.evaluate("JSON.stringify([{...localStorage}, document.cookie])")
    assert KEYS["app"] not in held
    other = studio.page.context.new_page()
    other.goto(studio.gateway.url)
    expect(other.get_by_label("API key")).to_be_focused()
    studio.page.get_by_role("button", name="Forget key").click()
    expect(studio.page.get_by_label("API key")).to_be_visible()
    assert studio.page.evaluate("sessionStorage.length") == 0


def test_from_a_photo_to_the_player(studio: Studio) -> None:
    studio.ready()
    card = studio.submit("a cat jumps")
    expect(card).to_contain_text("number 1 in the queue")
    job = studio.hands.claim()
    studio.hands.advance(job, 2)
    expect(card).to_contain_text("step 2 of 4")
    assert card.get_by_role("progressbar").get_attribute("value") == "45"
    studio.hands.complete(job, clip())
    expect(card).to_contain_text("Done")
    expect(studio.page.get_by_role("status").filter(has_text="is done")).to_be_visible()
    card.get_by_role("button", name="Play").click()
    player = card.locator("video")
    player.evaluate(
        "each => new Promise(done => each.readyState > 1 ? done() : each.onloadeddata = done)"
    )
    shown = player.evaluate("each => [each.videoWidth, each.videoHeight, each.duration]")
    assert shown == [128, 96, pytest.approx(17 / 16, abs=0.05)]


def test_the_preview_is_cut_as_the_service_cuts(studio: Studio) -> None:
    """Half of it is transparent, and its colours are a phone's."""
    half = Image.linear_gradient("L").resize((400, 200)).point(lambda level: 255 * (level > 127))
    photo = Image.open(io.BytesIO(picture(400, 200)))
    photo.putalpha(half)
    studio.ready()
    studio.submit(photo=encoded(photo, "PNG", icc_profile=rgb_profile(DISPLAY_P3)))
    cut = studio.page.locator(".zone canvas")
    assert cut.evaluate("each => [each.width, each.height]") == [128, 96]
    image = studio.hands.claim().order.image
    assert image is not None
    sent = studio.gateway.store.get_bytes(image)
    difference = studio.page.evaluate(
        """async (bytes) => {
            const bitmap = await createImageBitmap(new Blob([new Uint8Array(bytes)]));
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
            canvas.getContext("2d").drawImage(bitmap, 0, 0);
            const [a, b] = [canvas, document.querySelector(".zone canvas")].map((each) =>
                each.getContext("2d").getImageData(0, 0, each.width, each.height).data);
            return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length;
        }""",
        list(sent),
    )
    assert difference < 2, "levels of 256, mean"


def test_a_picture_may_be_pasted_or_dropped(studio: Studio) -> None:
    studio.ready()
    give = """([bytes, kind, place]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "given.png", {type: "image/png"}));
        const event = kind === "paste"
            ? new ClipboardEvent(kind, {clipboardData: data, bubbles: true})
            : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        document.querySelector(place).dispatchEvent(event);
    }"""
    studio.page.evaluate(give, [list(picture()), "paste", "body"])
    expect(studio.page.locator(".zone")).to_contain_text("Pasted picture, cut to 128x96")
    studio.page.get_by_label("Size").select_option("96x128")
    studio.page.evaluate(give, [list(picture()), "drop", ".zone"])
    expect(studio.page.locator(".zone")).to_contain_text("given.png, cut to 96x128")


def test_the_size_nearest_to_the_photos_shape_is_chosen(make_studio: Callable[..., Studio]) -> None:
    offered = [(128, 96), (96, 128), (64, 96), (256, 192)]
    studio = make_studio(sizes=[{"width": each[0], "height": each[1]} for each in offered])
    studio.ready()
    size, zone = studio.page.get_by_label("Size"), studio.page.locator(".zone")
    for photo, fits in (((300, 400), "96x128"), ((200, 300), "64x96"), ((410, 300), "128x96")):
        studio.give(picture(*photo))
        expect(zone).to_contain_text(f"cut to {fits}")
        assert size.input_value() == fits
    studio.give(picture(300, 400))
    studio.page.get_by_label("Effect").select_option("anime-fairy")
    assert size.input_value() == "96x128"
    studio.page.get_by_label("Effect").select_option(index=0)
    size.select_option("256x192")
    studio.submit(photo=picture(300, 400))
    assert str(studio.hands.claim().order.size) == "256x192", "somebody has chosen it"


def test_the_limits_of_the_service_are_said(make_studio: Callable[..., Studio]) -> None:
    limits = {"frames": 33, "prompt_characters": 300, "upload_bytes": 2**20, "image_pixels": 10_000}
    studio = make_studio(limits=limits)
    studio.ready()
    form, alerts = studio.page.get_by_role("form"), studio.page.get_by_role("alert")
    expect(form).to_contain_text("up to 1 MiB and 0.01 megapixels")
    expect(form).to_contain_text("up to 300 characters")
    expect(form).to_contain_text("Up to 2 s")
    give = studio.page.get_by_label("First frame").set_input_files
    photo = {"name": "a.png", "mimeType": "image/png"}
    give({**photo, "buffer": picture(400, 300)})
    fault = alerts.filter(has_text="has 0.12 megapixels: the service takes up to 0.01 megapixels")
    expect(studio.field_of(fault)).to_be_focused()
    give({**photo, "buffer": bytes(3 * 2**19)})
    expect(alerts.filter(has_text="has 1.5 MiB: the service takes up to 1 MiB")).to_be_visible()
    studio.give(picture(100, 75))
    expect(alerts.filter(has_text="the service takes")).to_have_count(0)


def test_what_it_takes_is_told_before(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(price_per_hour=3600)
    studio.ready()
    told = studio.page.get_by_label("Estimate")
    expect(told).to_contain_text("no worker is ready: it starts when one is · number 1")
    studio.hands.do(studio.hands.queue.alive(sign("hands")))
    before = told.inner_text()
    assert re.search(r"costs about [\d.]+$", before)
    studio.page.get_by_text("Advanced").click()
    studio.page.get_by_label("Steps").fill("200")
    expect(told).to_contain_text("starts at once")
    assert float(told.inner_text().split()[-1]) > 5 * float(before.split()[-1])


def test_a_waiting_one_is_cancelled(studio: Studio) -> None:
    studio.ready()
    card = studio.submit()
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("Cancelled")
    expect(card.get_by_role("button", name="Delete")).to_be_focused()


def test_a_running_one_is_cancelled_at_its_next_step(studio: Studio) -> None:
    studio.ready()
    card = studio.submit()
    job = studio.hands.claim()
    assert not studio.hands.advance(job, 1)
    expect(card).to_contain_text("step 1 of 4")
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("Stops after this step")
    assert studio.hands.advance(job, 2)
    assert studio.hands.do(studio.hands.queue.cancelled(job.id, "hands"))
    expect(card).to_contain_text("Cancelled")


def test_a_failed_one_says_why(studio: Studio) -> None:
    studio.ready()
    card = studio.submit()
    studio.hands.fail(studio.hands.claim(), "not_finite", "sampling gave NaN")
    expect(card).to_contain_text("Failed")
    expect(card).to_contain_text("sampling gave NaN")


def test_errors_are_told_at_their_fields(studio: Studio) -> None:
    studio.ready()
    studio.page.get_by_role("button", name="Make video").click()
    alerts = studio.page.get_by_role("alert")
    fault = alerts.filter(has_text="Choose a picture")
    expect(studio.field_of(fault)).to_be_focused()
    studio.fill()
    studio.page.get_by_text("Advanced").click()
    studio.page.get_by_label("Guidance", exact=True).fill("99")
    studio.page.get_by_text("Advanced").click()
    studio.page.get_by_role("button", name="Make video").click()
    fault = alerts.filter(has_text="must be at most 30")
    control = studio.field_of(fault)
    expect(control).to_be_focused()
    assert control.get_attribute("aria-invalid") == "true"
    control.fill("3")
    expect(fault).to_have_count(0)
    studio.page.get_by_label("What happens").fill(" ")
    studio.page.get_by_role("button", name="Make video").click()
    fault = alerts.filter(has_text="prompt: is empty")
    expect(studio.field_of(fault)).to_be_focused()


def test_an_effect_that_cannot_be_had_is_shown_and_not_offered(studio: Studio) -> None:
    cause = "s3://wan/fairy is a pickle of PyTorch"
    note = AdapterNote(name="fairy", ready=False, reason=Reason.MODEL_INVALID, message=cause)
    studio.hands.do(
        studio.hands.queue.alive(sign("a").model_copy(update={"adapter_notes": (note,)}))
    )
    reporter = studio.gateway.app.state.gateway.reporter
    while not reporter.faulty_adapters():
        studio.hands.do(studio.hands.queue.report())
    studio.ready()
    effects = studio.page.get_by_label("Effect")
    expect(effects.locator("option[value=anime-fairy]")).to_be_disabled()
    expect(effects.locator("option").first).to_be_enabled()
    studio.page.get_by_text("Advanced").click()
    expect(studio.page.get_by_role("checkbox", name="fairy")).to_be_disabled()
    expect(studio.page.get_by_text(cause)).to_be_visible()


def test_a_page_that_lost_a_file_loads_itself_again(make_studio: Callable[..., Studio]) -> None:
    studio, lost = make_studio(), []

    def lose(route: Route) -> None:
        lost.append(route.request.url)
        route.abort("failed")

    studio.page.route("**/words.js", lose, times=1)
    studio.ready()
    assert len(lost) == 1


def test_a_picture_that_is_broken_loads_nothing_again(studio: Studio) -> None:
    studio.ready()
    studio.page.get_by_label("What happens").fill("a cat jumps")
    # A timer that ends after the one by which the page would load itself again: then there would be
    # no page left to answer.
    studio.page.evaluate(
        """() => new Promise((done) => {
            const image = new Image();
            image.addEventListener("error", () => setTimeout(done, 1500));
            image.src = URL.createObjectURL(new Blob(["no picture"]));
            document.body.append(image);
        })"""
    )
    assert studio.page.get_by_label("What happens").input_value() == "a cat jumps"
