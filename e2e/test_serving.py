"""A WanInferenceService on the cluster: from a fine-tune's adapter to a video, through faults and
changes, with no video lost."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from finetunes import Run
from services import Service, make_video, manifest
from stack import Stack

# Of OpenAI's own service; the SDK stays, and so does what speaks its API.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


def frames_of(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.float32)


def test_a_fine_tunes_adapter_is_served_to_the_sdk(
    stack: Stack, reference: Run, serve: Callable[..., Service], picture: Path, tmp_path: Path
) -> None:
    reference.wait_complete()
    artifact = reference.status()["artifact"]
    service = Service(stack, reference.namespace, "videos")
    adapter = {"name": "driver", "fineTuneRef": {"name": reference.name}}
    effect = {"name": "in-the-car", "adapters": [{"name": "driver"}], "prompt": "a man {prompt}"}
    stack.apply(manifest(stack, service.namespace, "videos", adapters=[adapter], effects=[effect]))
    try:
        status = service.wait_ready()
        assert status["adapters"][0]["artifact"] == artifact
        assert status["readyGateways"] >= 1
        service.wait("startup told", lambda: service.status().get("startup"))
        status = service.status()
        assert status["sizes"][0]["size"] == "128x96"
        assert status["sizes"][0]["seconds"] > 0
        assert {"scheduling", "loading", "warming"} <= status["startup"].keys()
        with service.reached() as url:
            said = make_video(service, url, picture, tmp_path / "v.mp4", "in-the-car")
        assert "v.mp4" in said
        assert frames_of((tmp_path / "v.mp4").read_bytes()).shape == (9, 96, 128, 3)
        with_adapter = service.submit(picture, "", model="in-the-car", seed=1)
        without = service.submit(picture, "a man ", seed=1)
        client = service.client()
        pictures = []
        for video_id in (with_adapter, without):
            assert service.wait_ended(video_id).status == "completed"
            pictures.append(frames_of(client.videos.download_content(video_id).read()))
        assert np.abs(pictures[0] - pictures[1]).mean() > 0.5, "the adapter changes the picture"
        service.wait(
            "its row of the table",
            lambda: (
                stack.kubectl("-n", service.namespace, "get", "wis", "--no-headers").split()[:4]
                == ["videos", "Ready", "Serving", "1/1"]
            ),
        )
    finally:
        stack.kubectl("-n", service.namespace, "delete", "wis", "videos")


def test_no_video_is_lost_when_workers_and_gateways_die(
    stack: Stack, serve: Callable[..., Service], picture: Path
) -> None:
    service = serve("killed")
    service.wait_ready()
    videos = [service.submit(picture, steps=60) for _ in range(3)]
    client = service.client()
    # Any: the first may be completed before the last is submitted.
    service.wait(
        "one is rendered",
        lambda: "in_progress" in [client.videos.retrieve(video).status for video in videos],
        every=0.1,
    )
    stack.kill(service.namespace, service.pods("worker")[0]["metadata"]["name"])
    stack.kill(service.namespace, service.pods("gateway")[0]["metadata"]["name"])
    service.wait("the gateway answers", lambda: service.status().get("readyGateways"))
    ends = [service.wait_ended(video).status for video in videos]
    assert ends == ["completed"] * 3


def test_from_zero_and_back(serve: Callable[..., Service], picture: Path) -> None:
    scaling = {"maxReplicas": 2, "targetWaitSeconds": 300, "scaleDownDelaySeconds": 5}
    service = serve("zero", autoscaling=scaling)
    service.wait("at zero", lambda: service.condition("Ready") == ("True", "ScaledToZero"))
    assert service.pods("worker") == []
    video = service.submit(picture)
    assert service.wait_ended(video).status == "completed"
    service.wait("at zero again", lambda: service.status()["desiredReplicas"] == 0)
    service.wait("the worker to go", lambda: not service.pods("worker"))
    assert service.client().videos.retrieve(video).status == "completed"


def test_a_change_rolls_out_and_a_bad_one_rolls_back(
    serve: Callable[..., Service], picture: Path
) -> None:
    address = "s3://wan/no/such-adapter.safetensors"
    absent = {"name": "absent", "files": {"uri": address}}
    rollout = {"strategy": "Surge"}
    service = serve("changed", rollout=rollout, adapters=[absent])
    first = service.wait_ready()["revision"]
    told = ("False", "AdapterNotFound")
    service.wait("the adapter to be told of", lambda: service.condition("AdaptersReady") == told)
    service.wait(
        "its address",
        lambda: address in service.status()["adapters"][0].get("message", ""),
    )
    service.edit(defaults={"frames": 9, "steps": 4})
    service.wait("another revision", lambda: service.status()["revision"] != first)
    service.wait_ready()
    second = service.status()["revision"]
    assert service.wait_ended(service.submit(picture)).status == "completed"
    files = {"uri": "s3://wan/no/such.safetensors"}
    service.edit(adapters=[absent, {"name": "missing", "files": files}])
    service.wait("rolled back", lambda: service.condition("Stalled")[1] == "RolledBack")
    status = service.status()
    assert status["revision"] == second
    assert "missing" in status["rollout"]["message"]
    service.wait("the absent one alone", lambda: service.condition("AdaptersReady") == told)
    service.wait("serving still", lambda: service.condition("Ready") == ("True", "Serving"))
    assert service.wait_ended(service.submit(picture)).status == "completed"


def test_a_canary_gets_its_share_and_is_promoted(
    serve: Callable[..., Service], picture: Path
) -> None:
    canary = {"percent": 50, "minVideos": 2, "maxFailedPercent": 50, "maxSlowerPercent": 1000}
    service = serve("canary", rollout={"strategy": "Canary", "canary": canary})
    first = service.wait_ready()["revision"]
    service.edit(defaults={"frames": 9, "steps": 4})
    service.wait("proving", lambda: service.status().get("rollout", {}).get("phase") == "Proving")
    client, videos = service.client(), list[str]()

    def promoted() -> bool:
        if service.status()["revision"] != first:
            return True
        if not videos or client.videos.retrieve(videos[-1]).status in ("completed", "failed"):
            videos.append(service.submit(picture))
        return False

    service.wait("promoted", promoted, every=1)
    assert {service.wait_ended(video).status for video in videos} == {"completed"}
    service.wait("the canary to go", lambda: not service.pods("canary"))
