"""The CRD of WanInferenceService on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from integration.apiserver import ApiError
from integration.runs import INVALID_SERVICES, ROOT, SERVICES, Manifest, Runs, load, sent_is_kept
from integration.test_crd_refusals import expectation
from wan_operator.api.v1alpha1.inference import (
    NAME_LIMIT,
    WanInferenceServiceSpec,
    WanInferenceServiceStatus,
)
from wan_runtime.contract.sampling import LOSSY_KERNELS

MINIMAL = ROOT / "examples" / "inference-minimal.yaml"


def minimal(name: str = "videos", **spec: Any) -> Manifest:
    manifest = load(MINIMAL)
    manifest["metadata"]["name"] = name
    manifest["spec"] |= spec
    return manifest


@pytest.mark.parametrize("example", SERVICES, ids=lambda path: path.stem)
def test_example_is_taken(services: Runs, example: Path) -> None:
    done = services.kubectl("apply", "--validate=strict", "-f", str(example))
    assert done.stderr == ""
    assert services.names() == [load(example)["metadata"]["name"]]


@pytest.mark.parametrize("example", SERVICES, ids=lambda path: path.stem)
def test_models_and_server_agree_on_the_defaults(services: Runs, example: Path) -> None:
    wanted = load(example)
    stored = services.create(wanted)["spec"]
    read = WanInferenceServiceSpec.model_validate
    assert read(stored) == read(wanted["spec"])
    assert sent_is_kept(wanted["spec"], stored)


@pytest.mark.parametrize("example", INVALID_SERVICES, ids=lambda path: path.stem)
def test_invalid_example_is_refused(services: Runs, example: Path) -> None:
    message, field = expectation(example)
    with pytest.raises(ApiError) as refused:
        services.create(load(example))
    assert refused.value.code == 422
    assert field in refused.value.fields
    assert message in refused.value.message
    assert services.names() == []


@pytest.mark.parametrize("example", INVALID_SERVICES, ids=lambda path: path.stem)
def test_invalid_example_is_wrong_in_one_way_only(example: Path) -> None:
    sound, spec = minimal()["spec"], load(example)["spec"]
    # A rule may hold for models of one kind: any that a good example has is right.
    if spec.get("model") in [load(each)["spec"]["model"] for each in SERVICES]:
        sound["model"] = spec["model"]
    assert len({key for key in sound | spec if spec.get(key) != sound.get(key)}) == 1


@pytest.mark.parametrize(
    ("gpus", "profile", "message"),
    [(2, "Lossless", "must be at most half of workers.gpus"), (4, "Exact", "a ring rounds")],
)
def test_rings_have_room_and_no_equal_bits(
    services: Runs, gpus: int, profile: str, message: str
) -> None:
    ring = {
        "parallelism": {"backend": "xDiT", "ring": 2},
        "acceleration": {"profile": profile},
        "workers": {"gpus": gpus},
    }
    with pytest.raises(ApiError, match=message):
        services.create(minimal(**ring))
    services.create(minimal(**ring | {"workers": {"gpus": 4}, "acceleration": {}}))


def test_a_ring_is_of_16_bits(services: Runs) -> None:
    ring = {"parallelism": {"backend": "xDiT", "ring": 2}, "workers": {"gpus": 4}}
    for attention in LOSSY_KERNELS:
        named = {"acceleration": {"profile": "Fast", "attention": attention}}
        with pytest.raises(ApiError, match="cannot be added up in") as refused:
            services.create(minimal(**ring, **named))
        assert "spec.acceleration.attention" in refused.value.fields
    stored = services.create(
        minimal(**ring, acceleration={"profile": "Fast", "attention": "FlashAttention-3"})
    )
    assert stored["spec"]["acceleration"]["attention"] == "FlashAttention-3"


def test_an_effect_and_an_adapter_have_two_names(services: Runs) -> None:
    adapters = [{"name": "anime", "files": {"uri": "s3://wan/anime.safetensors"}}]
    with pytest.raises(ApiError, match="have the name of an adapter"):
        services.create(minimal(adapters=adapters, effects=[{"name": "anime"}]))
    services.create(minimal(adapters=adapters, effects=[{"name": "anime-fairy"}]))


def test_a_distilled_adapter_decides_the_schedule_of_its_effects(services: Runs) -> None:
    adapters = [
        {"name": "turbo", "files": {"uri": "s3://wan/turbo.safetensors"}, "distilled": {}},
        {"name": "film", "files": {"uri": "s3://wan/film.safetensors"}},
    ]

    def effects(**sampling: Any) -> list[Manifest]:
        return [
            {"name": name, "adapters": [{"name": use}], "sampling": sampling}
            for name, use in (("quick", "turbo"), ("slow", "film"))
        ]

    for change in ({"steps": 8}, {"guidance": 5}, {"shift": 3}, {"negativePrompt": "blurry"}):
        with pytest.raises(ApiError, match=r'distilled and decides them: \["quick"\]') as refused:
            services.create(minimal("bad", adapters=adapters, effects=effects(**change)))
        assert "spec.effects" in refused.value.fields
    kept = services.create(minimal(adapters=adapters, effects=effects(frames=49)))
    assert kept["spec"]["adapters"][0]["distilled"] == {"steps": 4, "shift": 5}


def test_a_distilled_adapter_of_an_effect_needs_the_whole_model(services: Runs) -> None:
    adapters = [
        {"name": "turbo", "files": {"uri": "s3://wan/turbo.safetensors"}, "distilled": {}},
        {"name": "film", "files": {"uri": "s3://wan/film.safetensors"}},
    ]

    def effects(use: Manifest) -> list[Manifest]:
        return [
            {"name": name, "adapters": [{"name": adapter} | use]}
            for name, adapter in (("quick", "turbo"), ("slow", "film"))
        ]

    for use in ({"expert": "HighNoise"}, {"strength": 0}):
        with pytest.raises(ApiError, match=r'at strength 0, .*: \["quick"\]; leave'):
            services.create(minimal("bad", adapters=adapters, effects=effects(use)))
    services.create(minimal(adapters=adapters, effects=effects({"strength": 0.5})))


def test_only_a_pair_has_guidance_of_its_low_noise_expert(services: Runs) -> None:
    effects = [{"name": "calm", "sampling": {"guidanceLow": 3}}]
    with pytest.raises(ApiError, match=r'of these effects: \["calm"\]'):
        services.create(minimal("bad", effects=effects))
    pair = minimal(effects=effects, defaults={"guidanceLow": 3})
    pair["spec"]["model"]["preset"] = "Wan2.2-I2V-A14B"
    services.create(pair)


def test_private_receivers_are_host_names_and_ranges(services: Runs) -> None:
    gateway = minimal()["spec"]["gateway"]
    good = [
        "receiver", "receiver.team-a.svc", "*.team-a.svc.cluster.local", "10.20.0.0/16", "10.0.0.7",
        "fd00:20::/32",
    ]  # fmt: skip
    services.create(minimal(gateway=gateway | {"webhookPrivateHosts": good}))
    for bad in ("http://receiver", "receiver:8080", "*", "a..b", "10.0.0.0/33", "300.0.0.0/8", ""):
        with pytest.raises(ApiError) as refused:
            services.create(minimal("bad", gateway=gateway | {"webhookPrivateHosts": [bad]}))
        assert "spec.gateway.webhookPrivateHosts[0]" in refused.value.fields, bad


def test_a_long_name_is_refused(services: Runs) -> None:
    with pytest.raises(ApiError, match=f"at most {NAME_LIMIT} characters"):
        services.create(minimal("v" * (NAME_LIMIT + 1)))
    services.create(minimal("v" * NAME_LIMIT))


def test_it_can_be_scaled_and_listed(services: Runs) -> None:
    services.create(minimal())
    services.kubectl("scale", "wis/videos", "--replicas=3")
    stored = services.server.request("GET", f"{services.path}/videos")
    assert stored["spec"]["replicas"] == 3
    status = {"replicas": 2, "selector": "a=b", "ready": "1/3", "queue": QUEUE, "url": "http://v"}
    services.patch("videos", {"status": status}, "/status")
    scale = services.server.request("GET", f"{services.path}/videos/scale")
    assert scale["status"] == {"replicas": 2, "selector": "a=b"}
    header, row = services.kubectl("get", "wis").stdout.splitlines()
    assert header.split() == ["NAME", "STATE", "REASON", "WORKERS", "QUEUED", "URL", "AGE"]
    assert row.split()[1:4] == ["1/3", "7", "http://v"]


QUEUE = {
    "queued": 7,
    "running": 1,
    "predictedSeconds": 12.5,
    "oldestSeconds": 3,
    "time": "2026-01-01T00:00:00Z",
}


def test_a_status_survives_the_server(services: Runs) -> None:
    services.create(minimal())
    status = WanInferenceServiceStatus.model_validate(
        {
            "url": "http://videos",
            "queue": QUEUE,
            "rollout": {
                "phase": "Proving",
                "revision": "abc",
                "startTime": "2026-01-01T00:00:00Z",
                "message": "1 of 10",
            },
            "sizes": [{"size": "1280x720", "seconds": 101.5}],
            "adapters": [{"name": "anime", "readyWorkers": 2}],
        }
    )
    sent = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    stored = services.patch("videos", {"status": sent}, "/status")["status"]
    assert sent_is_kept(sent, stored)
