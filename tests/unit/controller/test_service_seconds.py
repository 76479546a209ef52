"""The seconds of a video are the same wherever they are told before one was made: in the status, by
`kubectl wan plan`, and by the gateway to whoever asks for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from unit.controller.service_world import World, example
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.resolve import order_of
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.planned import Workers

Raw = dict[str, Any]
pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]
H100, A100 = "NVIDIA-H100-80GB-HBM3", "NVIDIA-A100-SXM4-80GB"
OWN = (
    '[{"name":"own","products":["Own"],"memoryGib":120,"bf16Tflops":500,"fp8Tflops":1000,'
    '"bandwidthGbs":2000,"pricePerHour":1}]'
)


def service(gpus: int, product: str = H100, **spec: Any) -> Raw:
    cr = example("canary", **spec)
    cr["spec"]["model"].pop("fineTuneRef")
    pods = {"nodeSelector": {"nvidia.com/gpu.product": product}}
    cr["spec"]["workers"] |= {"gpus": gpus, "podTemplate": pods}
    return cr


def told(cr: Raw, **settings: Any) -> tuple[float, float, ServiceSpec]:
    """By the status, and by a gateway for a request that says nothing."""
    world = World(cr, **settings)
    world.turn()
    seen = ServiceSpec.model_validate(world.served())
    order = order_of(Ask(prompt="x"), seen)
    seconds = Predictor(Workers.of(seen)).seconds(order)
    return world.status["effective"]["predictedSeconds"], seconds, seen


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"acceleration": {"profile": "Fast"}},
        {"acceleration": {"profile": "Balanced", "stepCache": "EasyCache"}},
        {"acceleration": {"profile": "Exact"}, "defaults": {"guidance": 1, "steps": 20}},
        {"limits": {"frames": 49}},
    ],
)
def test_all_tell_the_same(plan: Plan, gpus: int, spec: Raw) -> None:
    cr = service(gpus, **spec)
    status, gateway, seen = told(cr)
    _, out, _ = plan("-o", "json", of=[cr])
    [planned] = json.loads(out)
    assert gateway == pytest.approx(status, abs=0.06)
    assert planned["secondsPerVideo"] == pytest.approx(status, abs=0.06)
    assert (seen.gpus or 1, planned["gpus"]) == (gpus, gpus)


def test_each_doubling_of_gpus_is_known_before_a_video_was_made() -> None:
    one, two, four, eight = (told(service(gpus))[1] for gpus in (1, 2, 4, 8))
    assert one / two == pytest.approx(1.985, rel=0.01), "as two H200 were measured"
    assert 1.5 < two / four < 2
    assert 1.5 < four / eight < 2


def test_the_type_of_the_gpus_counts() -> None:
    for product, settings in ((A100, {}), ("Own", {"WAN_GPU_CATALOGUE": OWN})):
        status, gateway, _ = told(service(2, product), **settings)
        assert gateway == pytest.approx(status, abs=0.06)
        assert status > 1.5 * told(service(2))[0]


def test_a_shorter_limit_shortens_the_default() -> None:
    world = World(service(1, limits={"frames": 49}))
    world.turn()
    assert world.status["effective"]["frames"] == 49
    assert world.served("worker")["defaults"]["frames"] == 49, "its warm-up is no longer than that"
