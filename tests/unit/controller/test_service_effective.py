"""`status.effective` is of what serves: an edit's values follow once its rollout is through. So are
`status.weights` and the artifacts of `status.adapters`; what is next is told beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, finetune, node, report, tiny
from wan_operator.reconcile.room import Room
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import AdapterNote, WorkerReport

SIZE = {"width": 96, "height": 128}
EDIT = {"defaults": {"frames": 13, "fps": 12, "steps": 4, "guidance": 1.5}, "sizes": [SIZE]}
TOLD = {"frames": 13, "fps": 12.0, "steps": 4, "guidance": 1.5, "sizes": ["96x128"]}
LATER = [{"name": "later", "fineTuneRef": {"name": "later"}}]


def serving(**spec: Any) -> World:
    world = World(tiny(**spec))
    world.settle()
    return world


def is_of_the_edit(world: World) -> bool:
    """All of it, or nothing."""
    effective = world.status["effective"]
    found = {effective[name] == value for name, value in TOLD.items()}
    assert len(found) == 1
    return found == {True}


@pytest.mark.parametrize("strategy", ["Recreate", "Surge", "Canary"])
def test_a_change_is_told_once_it_is_through(strategy: str) -> None:
    world = serving(rollout={"strategy": strategy})
    before, spec = world.status["effective"], world.cr["spec"].copy()
    world.edit(**EDIT)
    for _ in range(3):
        world.turn(5)
        assert world.status["rollout"]["phase"] == "Starting"
        assert world.status["effective"] == before
    world.roll(ready=False)
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.settle()
    assert world.status["effective"] == before
    world.cr["spec"] = spec
    world.edit(rollout={"strategy": "Surge"})
    world.turn(60)
    world.edit(**EDIT)
    world.settle()
    assert "rollout" not in world.status
    assert is_of_the_edit(world)


def test_a_change_that_waits_for_what_it_names() -> None:
    world = serving()
    before = world.status["effective"]
    world.edit(adapters=LATER, **EDIT)
    world.settle()
    assert world.condition("Stalled")[1] == "FineTuneNotFound"
    assert world.status["effective"] == before
    world.finetunes["later"] = finetune("later")
    world.settle()
    assert is_of_the_edit(world)


def test_a_change_that_waits_for_room() -> None:
    world = serving()
    before, room = world.status["effective"], world.room
    world.room = Room((node("full", gpus=0),))
    world.edit(**EDIT)
    world.settle()
    assert world.status["rollout"]["phase"] == "Waiting"
    assert world.status["effective"] == before
    world.room = room
    world.settle()
    assert is_of_the_edit(world)


def test_before_anything_serves_it_is_of_the_spec() -> None:
    world = World(tiny(adapters=LATER))
    world.turn()
    world.edit(**EDIT)
    world.turn()
    assert is_of_the_edit(world)


def test_what_gateways_have_is_told_at_once() -> None:
    world = serving(store={"bucket": "wan"}, database=None)
    was = world.status["effective"]
    secret = {"secretRef": {"name": "other"}}
    world.settings = replace(world.settings, operator_image="wan-operator:2")
    world.edit(store={"bucket": "wan"} | secret, database=secret, **EDIT)
    world.turn()
    found, store = world.status["effective"], was["store"] | {"secretName": "other"}
    of_gateways = {"gatewayImage": "wan-operator:2", "databaseSecret": "other", "store": store}
    assert found == was | of_gateways


def test_a_change_that_makes_no_other_workers_is_told_at_once() -> None:
    world = serving()
    revision = world.status["revision"]
    world.settings = replace(world.settings, operator_image="wan-operator:2")
    world.status["effective"]["frames"] = 1  # of an earlier release
    world.turn()
    assert world.status["revision"] == revision
    assert world.status["effective"]["gatewayImage"] == "wan-operator:2"
    assert world.status["effective"]["frames"] != 1


MODEL = {"preset": "Wan2.1-I2V-Tiny", "fineTuneRef": {"name": "whole"}}
STYLE, OTHER = ({"name": name, "fineTuneRef": {"name": name}} for name in ("style", "other"))


def tuned(strategy: str) -> World:
    """A service of a fine-tune's weights and of an adapter, of which the next are done."""
    rollout = {"strategy": strategy, "deadlineSeconds": 600}
    world = World(tiny(model=MODEL, adapters=[STYLE], rollout=rollout))
    train(world, "a")
    world.settle()
    assert told(world) == ("a", "a", "")
    train(world, "b")
    world.turn()
    return world


def train(world: World, digit: str) -> None:
    world.finetunes["whole"] = finetune("whole", sha256=digit * 64, method={"full": {}})
    world.finetunes["style"] = finetune("style", sha256=digit * 64)


def told(world: World) -> tuple[str, str, str]:
    """A digit of the model's weights, of the adapter's, and of the next ones, which are alike."""
    [adapter] = world.status["adapters"]
    found = (
        world.status.get("weights"), adapter.get("artifact"), adapter.get("nextArtifact"),
        world.status.get("nextWeights"),
    )  # fmt: skip
    model, served, awaited, next_weights = (
        (each or {"sha256": ""})["sha256"][:1] for each in found
    )
    assert next_weights == awaited
    return model, served, awaited


@pytest.mark.parametrize("strategy", ["Recreate", "Surge", "Canary"])
def test_weights_are_told_once_workers_serve_them(strategy: str) -> None:
    world = tuned(strategy)
    for _ in range(3):
        world.turn(5)
        assert world.status["rollout"]["phase"] == "Starting"
        assert told(world) == ("a", "a", "b")
    world.roll(ready=False)
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.settle()
    assert told(world) == ("a", "a", "b")
    world.edit(rollout={"strategy": "Surge"})
    train(world, "c")
    world.settle()
    assert "rollout" not in world.status
    assert told(world) == ("c", "c", "")


def test_weights_that_are_rolled_out_are_those_of_a_fine_tune_that_goes() -> None:
    world = tuned("Surge")
    new = world.running("worker")
    world.finetunes.clear()
    for _ in range(3):
        world.turn(5)
        assert (world.running("worker"), told(world)) == (new, ("a", "a", "b"))
    world.settle()
    assert (world.status["revision"], told(world)) == (new, ("b", "b", ""))


@pytest.mark.parametrize("phase", ["Waiting", "RolledBack"])
def test_a_fine_tune_that_goes_changes_nothing_of_a_rollout(phase: str) -> None:
    """Else the next weights of the adapter would be rolled out with the old ones of the model."""
    world = tuned("Surge")
    if phase == "Waiting":
        train(world, "c")
        world.room = Room((node("full", gpus=0),))
        world.status["sizes"] = [{"size": "128x96", "seconds": 1}]  # a worker was ready
        world.turn()
    else:
        world.roll(ready=False)
        world.turn(3600)
    before = world.status["rollout"]["revision"], told(world)
    world.finetunes.clear()
    for _ in range(3):
        world.turn(5)
        assert world.status["rollout"]["phase"] == phase
        assert (world.status["rollout"]["revision"], told(world)) == before
    if phase == "Waiting":
        world.room = Room((node("large", gpus=100),))
        world.turn(5)
        world.settle()
        assert told(world) == ("c", "c", "")


def test_an_edited_record_of_what_is_rolled_out_is_mended() -> None:
    world = tuned("Surge")
    name = world.status["rollout"]["revision"]
    kept = world.objects["ConfigMap", f"demo-{name}"]["data"]
    before = kept["service.json"]
    kept["service.json"] = "{"
    world.turn(5)
    assert world.status["rollout"]["revision"] == name
    assert world.objects["ConfigMap", f"demo-{name}"]["data"]["service.json"] == before


def test_before_anything_serves_weights_are_the_next_ones() -> None:
    world = World(tiny(model=MODEL, adapters=[STYLE, OTHER]))
    train(world, "a")
    world.turn()
    assert world.status["revision"] == ""
    style, other = world.status["adapters"]
    assert (style["nextArtifact"]["sha256"], other["reason"]) == ("a" * 64, "FineTuneNotFound")
    assert world.status["nextWeights"]["sha256"] == "a" * 64
    assert "artifact" not in style
    assert "weights" not in world.status


def test_weights_that_cannot_be_served_are_not_told() -> None:
    world = tuned("Surge")
    world.settle()
    world.finetunes["whole"] = finetune("whole", method={"lora": {}})
    world.finetunes["style"] = finetune("style", method={"full": {}})
    world.settle()
    assert world.condition("Stalled")[1] == "FineTuneUnsuitable"
    assert told(world) == ("b", "b", "")


def test_what_is_taken_out_is_told_while_it_is_served() -> None:
    world = tuned("Surge")
    world.settle()
    files = {"name": "style", "files": {"uri": "s3://wan/style.safetensors"}}
    world.edit(model={"preset": "Wan2.1-I2V-Tiny"}, adapters=[files])
    world.turn()
    assert told(world) == ("b", "b", "")
    world.settle()
    assert told(world) == ("", "", "")


def test_what_workers_say_of_the_next_weights_outlives_their_rollback() -> None:
    world = tuned("Surge")
    note = AdapterNote(name="style", ready=False, reason=Reason.MODEL_INVALID, message="it is torn")
    worker = WorkerReport(
        name="new", revision=world.running("worker"), ready=True, ranks=1, adapter_notes=(note,),
        seen_seconds=1,
    )  # fmt: skip
    world.roll()
    world.report = report(workers=(worker,))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    world.report = report()
    for _ in range(3):
        world.turn(60)
        assert (told(world), world.status["adapters"][0]["message"]) == (
            ("a", "a", "b"), "it is torn",
        )  # fmt: skip
    assert world.events.count("style: it is torn") == 1
    train(world, "a")
    world.settle()
    assert world.condition("AdaptersReady")[:2] == ("True", "FineTunesDone")
