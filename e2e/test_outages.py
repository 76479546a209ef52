"""What all of the cluster stands on fails under a fine-tune and a service: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import component
from finetunes import Run, assert_same_weights
from services import Service
from stack import TIMEOUT, Stack, wait_until

# Of OpenAI's own service; the SDK stays, and so does what speaks its API.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.mark.alone
def test_database_store_and_kubelet_fail(
    stack: Stack,
    serve: Callable[..., Service],
    start: Callable[..., Run],
    reference: Run,
    picture: Path,
) -> None:
    """Each in the middle of a video; the store in the middle of a training too, and for longer than
    a worker has patience."""
    reference.wait_complete()  # undisturbed
    service = serve("outages")
    service.wait_ready()
    client = service.client()

    def is_rendered(video: str) -> bool:
        return bool(client.videos.retrieve(video).status == "in_progress")

    def begun(steps: int = 100) -> str:
        """A video that is being rendered."""
        video = service.submit(picture, steps=steps)
        service.wait("it is rendered", lambda: is_rendered(video), every=0.1)
        return video

    videos = [begun()]
    stack.kill("postgres", "postgres-0")
    assert service.wait_ended(videos[-1]).status == "completed"

    run = start("store-stopped")
    run.wait_running("train")
    # Long, and while the training still imports: that is over in seconds once it has begun.
    videos.append(begun(steps=200))
    wait_until(lambda: run.training_step() >= 1, what=run.story, every=0.1)
    if not is_rendered(videos[-1]):
        videos.append(begun(steps=200))
    with store_down(stack):
        assert run.step("train")["state"] == "Running", "the fault meets the uploads"
        assert is_rendered(videos[-1]), "the fault meets the video"
        with pytest.raises(TimeoutError):  # the fault itself is time
            wait_until(lambda: run.is_true("Complete"), seconds=60, what="MinIO is down")
    assert service.wait_ended(videos[-1]).status == "completed"

    videos.append(begun())
    kubelet = component("kubelet")
    kubelet.kill()
    try:
        assert service.wait_ended(videos[-1]).status == "completed"
    finally:
        kubelet.start()
    service.wait_ready()
    found = [client.videos.retrieve(video).status for video in videos]
    assert set(found) == {"completed"}
    run.wait_complete()
    assert_same_weights(run, reference)


@contextmanager
def store_down(stack: Stack) -> Iterator[None]:
    now = ("--force", "--grace-period=0")
    stack.kubectl("-n", "minio", "scale", "statefulset/minio", "--replicas=0")
    try:
        # Without grace: training is over in seconds.
        stack.kubectl("-n", "minio", "delete", "pod", "minio-0", *now, "--ignore-not-found")
        yield
    finally:
        stack.kubectl("-n", "minio", "scale", "statefulset/minio", "--replicas=1")
        words = ("rollout", "status", "statefulset/minio", TIMEOUT)
        stack.kubectl("-n", "minio", *words)
