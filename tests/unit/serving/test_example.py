"""examples/make_video.py, as an app team runs it, against a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from running_gateway import KEYS, Hands, RunningGateway
from unit.serving.test_pictures import picture
from wan_runtime.rendering.order import Job

pytest_plugins = ["gateway_fixtures"]

SCRIPT = Path(__file__).parents[3] / "examples" / "make_video.py"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture(400, 300, "JPEG"))
    return path


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def started() -> Iterator[Start]:
    """`started(*arguments, **environment)`; killed at the end."""
    with ExitStack() as stack:

        def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
            # Only the SDK: nothing of ours is on its path.
            kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
            command = [sys.executable, "-P", "-u", str(SCRIPT), *map(str, arguments)]
            process = subprocess.Popen(
                command, env=kept | environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def claimed(hands: Hands) -> Job:
    while (job := hands.do(hands.queue.claim("hands", 30))) is None:
        hands.do(hands.queue.wait(1))
    return job


def test_a_video_and_its_thumbnail(
    gateway: RunningGateway, hands: Hands, photo: Path, tmp_path: Path, started: Start
) -> None:
    out = tmp_path / "made.mp4"
    running = started(
        photo, "a girl", "--url", gateway.url, "--key", KEYS["app"], "--model", "anime-fairy",
        "--size", "96x128", "--seconds", "0.5", "--out", out,
    )  # fmt: skip
    job = claimed(hands)
    order = job.order
    assert (order.model, order.prompt) == ("anime-fairy", "fairy, a girl")
    assert (str(order.size), order.frames) == ("96x128", 9)
    assert running.stdout is not None
    assert not hands.advance(job, 2)
    assert any("in_progress" in line and line.endswith(" 45 %\n") for line in running.stdout)
    hands.complete(job, b"the video")
    code, rest, error = finished(running)
    assert (code, error) == (0, "")
    assert out.read_bytes() == b"the video"
    assert (tmp_path / "made.webp").stat().st_size > 0
    assert rest.splitlines()[-1] == f"{out}: 9 bytes"


def test_a_video_that_was_not_made(
    gateway: RunningGateway, hands: Hands, photo: Path, started: Start
) -> None:
    running = started(photo, "a cat", WAN_URL=gateway.url, WAN_API_KEY=KEYS["app"])
    job = claimed(hands)
    assert job.order.model == gateway.service.name
    hands.fail(job, "out_of_memory", "needs 94 GiB")
    code, _, error = finished(running)
    assert code == 1
    assert "was not made: needs 94 GiB" in error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--key", "wan-key-x"), 1, "refused (401): "),
        (("--size", "1x1"), 1, "1x1 is not served here: it is one of 128x96, 96x128"),
        (("--model", "sora-2"), 1, "'sora-2' is not served here"),
        (("--url", "http://127.0.0.1:1"), 1, "http://127.0.0.1:1 does not answer"),
        (("--url", ""), 2, "--url and --key, or WAN_URL and WAN_API_KEY"),
    ],
)
def test_what_is_wrong_is_said(
    gateway: RunningGateway, photo: Path, started: Start,
    arguments: tuple[str, ...], code: int, message: str,
) -> None:  # fmt: skip
    environment = {"WAN_URL": gateway.url, "WAN_API_KEY": KEYS["app"]}
    found, _, error = finished(started(photo, "a cat", *arguments, **environment))
    assert found == code
    assert message in error
    assert "Traceback" not in error
