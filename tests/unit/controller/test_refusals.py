"""What cannot be acted on, and what is left alone."""

from __future__ import annotations

from unit.controller.world import SETTINGS, UID, World
from wan_operator.settings import Settings
from wan_runtime.contract.job import ExitClass


def test_a_store_that_nobody_names_stalls_until_the_settings_do() -> None:
    bare = Settings(runtime_image="x", operator_image="x", namespace="wan-system", identity="test")
    world = World(bare)
    world.settle()
    assert world.leading == ("Stalled", "StoreNotConfigured")
    message = world.status["conditions"][0]["message"]
    for wanted in ("spec.store.endpoint", "store.bucket", "spec.store.secretRef.name"):
        assert wanted in message
    assert world.status["observedGeneration"] == 1
    world.settings = SETTINGS
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    assert world.condition("Stalled") is None


def test_the_spec_wins_over_the_settings_and_the_bucket_is_pinned() -> None:
    world = World(store={"bucket": "mine", "prefix": "p", "secretRef": {"name": "own"}})
    world.settle()
    effective = world.status["effective"]
    assert effective["store"] == {
        "endpoint": "http://minio:9000",
        "bucket": "mine",
        "prefix": "p",
        "region": "us-east-1",
        "secretName": "own",
    }
    assert effective["runPrefix"] == f"s3://mine/p/team/demo/{UID[:8]}"
    moved = World()
    moved.reach("encode")
    moved.settings = Settings(
        runtime_image="new",
        operator_image="new",
        namespace="wan-system",
        store_endpoint="http://moved:9000",
        store_bucket="other",
        store_secret="fresh",
    )
    moved.settle()
    store = moved.status["effective"]["store"]
    assert (store["bucket"], store["endpoint"], store["secretName"]) == (
        "wan",
        "http://moved:9000",
        "fresh",
    )


def test_a_resource_of_a_newer_release_stalls_in_words() -> None:
    world = World(model={"preset": "Wan3.0"})
    world.settle()
    assert world.leading == ("Stalled", "SpecInvalid")
    message = world.status["conditions"][0]["message"]
    assert message.startswith("spec.model.preset: must be Wan2.1-I2V-14B-720P, ")
    assert message.endswith(', not "Wan3.0"')
    assert not world.created


def test_a_name_that_leaves_no_room_stalls() -> None:
    world = World(name="n" * 41)
    world.settle()
    assert world.leading == ("Stalled", "SpecInvalid")
    longest = World(name="n" * 40, model={"preset": "Wan2.2-I2V-Tiny"})
    for _ in range(8):
        longest.settle()
        if longest.is_final:
            break
        longest.ends(ExitClass.DONE)
    assert max(len(name) for name in longest.created) <= 59, "63, less four digits"


def test_deleted_and_disabled_resources_are_left_alone() -> None:
    world = World()
    world.cr["metadata"]["deletionTimestamp"] = world.now.isoformat()
    world.settle()
    assert world.writes == 0
    world = World()
    world.cr["metadata"]["annotations"] = {"wan-operator.dev/reconcile": "disabled"}
    world.settle()
    assert world.writes == 0


def test_waits_for_the_children_of_a_deleted_namesake() -> None:
    world = World()
    world.settle()
    for child in (*world.jobs.values(), *world.config_maps.values()):
        child["metadata"]["ownerReferences"][0]["uid"] = "somebody-else"
    del world.cr["status"]
    decision = world.settle()
    assert world.created == ["demo-prepare-1"]
    assert decision.requeue_after == 2
    assert "earlier WanFineTune" in world.status["conditions"][0]["message"]
    world.jobs.clear()
    world.config_maps.clear()
    world.pods.clear()
    world.settle()
    assert world.created == ["demo-prepare-1"] * 2
