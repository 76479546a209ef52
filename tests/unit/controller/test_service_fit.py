"""A change whose videos cannot fit the GPU of the workers leaves those that serve alone."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.service_world import World, example, warm

L4 = {"podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}}
DISABLED = {"wan-operator.dev/fit-check": "disabled"}


def serving(**spec: Any) -> World:
    """One of 81 frames on a GPU of 22 GiB, whose worker was ready."""
    model = {"preset": "Wan2.2-I2V-A14B", "source": {"persistentVolumeClaim": {"claimName": "m"}}}
    cr = example("canary", model=model, limits={"frames": 81}, workers=L4, **spec)
    cr["spec"].pop("autoscaling", None)
    cr["spec"] |= {"replicas": 1, "adapters": [], "effects": [], "rollout": {"capacity": "Assume"}}
    world = World(cr)
    world.settle()
    warm(world, "1280x720")
    return world


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limits": {"frames": 241}}, "that spec.limits.frames allows, of 1280x720 and 241 frames"),
        (
            {"sizes": [{"width": 1920, "height": 1088}], "defaults": {"frames": 161}},
            "default size and length (spec.sizes, spec.defaults), of 1920x1088 and 161 frames",
        ),
        ({"acceleration": {"profile": "Exact"}}, "it fits with acceleration.profile: Lossless"),
    ],
    ids=["longer", "larger", "profile"],
)
def test_a_change_that_cannot_fit_is_refused_and_what_serves_goes_on(
    change: dict[str, Any], said: str
) -> None:
    world = serving()
    before, served = world.status["revision"], world.served()["limits"]
    effective = world.status["effective"]
    kept = world.cr["spec"].copy()
    world.edit(**change)
    events = world.turn(60).events
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "DoesNotFit")
    assert said in message
    assert f"the workers stay at revision {before}: " in message
    assert "it fits with" in message
    assert [(each.type, each.reason, each.message) for each in events] == [
        ("Warning", "DoesNotFit", message)
    ]
    assert world.look().events == ()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.running("worker") == world.status["revision"] == before
    assert "rollout" not in world.status
    assert world.served()["limits"] == served, "gateways accept what workers can render"
    assert world.status["effective"] == effective
    world.edit(replicas=2)
    world.turn(60)
    assert world.replicas() == 2, "what serves is scaled"
    world.cr["spec"] = kept
    world.edit()
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.status["revision"] == before


def test_a_smaller_gpu_is_refused() -> None:
    world = serving()
    before = world.status["revision"]
    small = '[{"name":"small","products":["TINY"],"memoryGib":9,"bf16Tflops":200,"fp8Tflops":400,'
    small += '"bandwidthGbs":800,"pricePerHour":1}]'
    world.settings = World(world.cr, WAN_GPU_CATALOGUE=small).settings
    world.edit(workers={"podTemplate": {"nodeSelector": {"nvidia.com/gpu.product": "TINY"}}})
    world.turn(60)
    assert world.condition("Stalled")[1] == "DoesNotFit"
    assert "and small has 9: it fits with " in world.condition("Stalled")[2]
    assert world.running("worker") == before


def test_the_annotation_rolls_it_out_and_what_was_ready_has_shown_that_it_fits() -> None:
    """The planner may be wrong; then a change of anything else is not held up."""
    world = serving()
    world.edit(limits={"frames": 237})
    world.cr["metadata"]["annotations"] = DISABLED
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.served()["limits"]["frames"] == 237
    world.cr["metadata"]["annotations"] = {}
    world.edit(adapters=[{"name": "new", "files": {"highNoise": "s3://wan/a.safetensors"}}])
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.served("worker")["adapters"]
    world.edit(limits={"frames": 241})
    world.turn(60)
    assert world.condition("Stalled")[1] == "DoesNotFit"


def test_a_rollout_that_it_ends_is_told_of() -> None:
    world = serving()
    before = world.status["revision"]
    world.edit(defaults={"steps": 4})
    world.turn(60)
    new = world.status["rollout"]["revision"]
    world.edit(limits={"frames": 241})
    ended, why = world.turn(60).events
    assert (ended.reason, why.reason) == ("RolledBack", "DoesNotFit")
    assert f"of revision {new}, which was Starting, ended: revision {before} serves on, " in (
        ended.message
    )
    assert world.running("worker") == before
    assert not world.turn(60).events
