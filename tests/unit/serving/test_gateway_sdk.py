"""The unmodified `openai` SDK against a gateway, a real database and a real store."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from PIL import Image

from running_gateway import KEYS, Hands, RunningGateway
from unit.serving.test_pictures import picture

pytest_plugins = ["gateway_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def sdk(gateway: RunningGateway, key: str) -> openai.OpenAI:
    """To be closed: a socket that is collected open fails the test that runs by then."""
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with sdk(gateway, KEYS["app"]) as made:
        yield made


def photo() -> io.BytesIO:
    data = io.BytesIO(picture(400, 300, "JPEG"))
    data.name = "photo.jpg"
    return data


def test_create_follow_download_and_delete(client: openai.OpenAI, hands: Hands) -> None:
    made = client.videos.create(
        prompt="a cat walks", input_reference=photo(), size="128x96", seconds="1",  # type: ignore[arg-type]
        extra_body={"seed": 7, "steps": 6, "guidance": 2.5, "negative_prompt": "blur"},
    )  # fmt: skip
    assert (made.object, made.status, made.progress) == ("video", "queued", 0)
    assert (made.size, made.seconds, made.prompt) == ("128x96", "1", "a cat walks")
    job = hands.claim()
    assert job.id == made.id
    assert (job.order.seed, job.order.steps, job.order.guidance) == (7, 6, 2.5)
    assert (job.order.frames, job.order.negative_prompt) == (17, "blur")
    assert not hands.advance(job, 3)
    running = client.videos.retrieve(made.id)
    assert (running.status, running.progress) == ("in_progress", 45)
    hands.complete(job, b"the video")
    done = client.videos.retrieve(made.id)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    assert done.completed_at is not None
    assert done.expires_at is not None
    assert done.expires_at > done.completed_at
    assert client.videos.download_content(made.id).read() == b"the video"
    thumbnail = client.videos.download_content(made.id, variant="thumbnail").read()
    assert thumbnail.startswith(b"\x89PNG")
    assert client.videos.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        client.videos.retrieve(made.id)
    assert caught.value.code == "not_found"


def test_create_and_poll(client: openai.OpenAI, hands: Hands) -> None:
    def work() -> None:
        while (job := hands.do(hands.queue.claim("hands", 30))) is None:
            hands.do(hands.queue.wait(1))
        hands.complete(job)

    worker = threading.Thread(target=work)
    worker.start()
    done = client.videos.create_and_poll(prompt="a cat", input_reference=photo())
    worker.join()
    assert done.status == "completed"


def test_a_failed_video_says_why(client: openai.OpenAI, hands: Hands) -> None:
    made = client.videos.create(prompt="a cat", input_reference=photo())
    hands.fail(hands.claim(), "out_of_memory", "needs 94 GiB")
    failed = client.videos.poll(made.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("out_of_memory", "needs 94 GiB")


def test_pages(client: openai.OpenAI) -> None:
    made = [client.videos.create(prompt=f"{n}", input_reference=photo()).id for n in range(5)]
    assert [video.id for video in client.videos.list(limit=2)] == made[::-1], "all pages in turn"
    page = client.videos.list(limit=2, order="asc")
    assert ([video.id for video in page.data], page.has_more) == (made[:2], True)
    last = client.videos.list(limit=2, after=made[4], order="asc")
    assert (last.data, last.has_more) == ([], False)
    with pytest.raises(openai.BadRequestError, match="after"):
        client.videos.list(after="video_unknown")


def test_remix_keeps_all_but_the_prompt(client: openai.OpenAI, hands: Hands) -> None:
    made = client.videos.create(
        prompt="a cat", input_reference=photo(), extra_body={"seed": 9, "steps": 5}
    )
    with pytest.raises(openai.ConflictError):
        client.videos.remix(made.id, prompt="a dog")
    hands.complete(hands.claim())
    remixed = client.videos.remix(made.id, prompt="a dog")
    assert (remixed.remixed_from_video_id, remixed.prompt) == (made.id, "a dog")
    job = hands.claim()
    assert (job.order.seed, job.order.steps, job.order.prompt) == (9, 5, "a dog")
    assert job.order.image is not None
    assert made.id not in job.order.image


def test_a_remix_starts_from_the_whole_first_frame(
    client: openai.OpenAI, hands: Hands, gateway: RunningGateway
) -> None:
    """Not from the thumbnail: that has 512 pixels at most."""
    made = client.videos.create(prompt="a cat", input_reference=photo())
    hands.complete(hands.claim(), first_frame=picture(128, 96))
    client.videos.remix(made.id, prompt="a dog")
    image = hands.claim().order.image
    assert image is not None
    started, first = (
        np.asarray(Image.open(io.BytesIO(data)))
        for data in (gateway.store.get_bytes(image), picture(128, 96))
    )
    assert np.array_equal(started, first)


def test_effects_and_adapters_as_the_sdk_sends_them(client: openai.OpenAI, hands: Hands) -> None:
    client.videos.create(prompt="a girl", model="anime-fairy", input_reference=photo())
    order = hands.claim().order
    assert (order.model, order.prompt) == ("anime-fairy", "fairy, a girl")
    assert [(use.name, use.strength, use.expert) for use in order.adapters] == [
        ("fairy", 1.0, None)
    ]
    client.videos.create(
        prompt="a girl", input_reference=photo(),
        extra_body={"adapters": [{"name": "fairy", "strength": 0.5, "expert": "high_noise"}]},
    )  # fmt: skip
    [use] = hands.claim().order.adapters
    assert (use.name, use.strength, use.expert) == ("fairy", 0.5, "HighNoise")


def test_a_data_url_as_the_sdk_sends_it(client: openai.OpenAI, hands: Hands) -> None:
    import base64

    url = "data:image/png;base64," + base64.b64encode(picture()).decode()
    # Not as `input_reference`: the SDK lets nothing but files through there.
    client.videos.create(prompt="a cat", extra_body={"input_reference": {"image_url": url}})
    assert hands.claim().order.image is not None


def test_models(client: openai.OpenAI, gateway: RunningGateway) -> None:
    found = {model.id: model for model in client.models.list()}
    assert list(found) == [gateway.service.name, "anime-fairy"]
    effect = json.loads(found["anime-fairy"].to_json())
    assert effect["settings"]["sizes"] == ["128x96", "96x128"]
    assert effect["description"] == "Turns a photo into an anime fairy."
    assert client.models.retrieve("anime-fairy").id == "anime-fairy"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("sora-2")


def test_what_has_no_meaning_here(client: openai.OpenAI) -> None:
    for call in (
        lambda: client.videos.edit(prompt="x", video=photo()),
        lambda: client.videos.extend(prompt="x", seconds="4", video=photo()),
        lambda: client.videos.create_character(name="x", video=photo()),
        lambda: client.videos.get_character("x"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.code == "not_supported"


def test_a_wrong_key(gateway: RunningGateway) -> None:
    with (
        sdk(gateway, "wan-key-x") as wrong,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        wrong.videos.list()
    assert caught.value.code == "invalid_api_key"


def test_videos_are_their_owners(gateway: RunningGateway, client: openai.OpenAI) -> None:
    made = client.videos.create(prompt="a cat", input_reference=photo())
    with sdk(gateway, KEYS["team"]) as other:
        assert not other.videos.list().data
        for call in (
            lambda: other.videos.retrieve(made.id),
            lambda: other.videos.delete(made.id),
            lambda: other.videos.download_content(made.id),
            lambda: other.videos.remix(made.id, prompt="x"),
        ):
            with pytest.raises(openai.NotFoundError):
                call()
