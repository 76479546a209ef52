"""A service stays with the store that has its photos and videos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.service_world import World, queue, report, tiny, warm

STORE = {"endpoint": "http://minio:9000", "bucket": "videos", "prefix": "team"}


def serving(**spec: Any) -> World:
    """One whose worker was ready."""
    world = World(tiny(**spec))
    world.settle()
    warm(world, "128x96")
    return world


@pytest.mark.parametrize(
    ("change", "address"),
    [
        ({"endpoint": "https://minio:9000"}, "https://minio:9000/videos/team"),
        ({"bucket": "others"}, "http://minio:9000/others/team"),
        ({"prefix": "group"}, "http://minio:9000/videos/group"),
    ],
    ids=["endpoint", "bucket", "prefix"],
)
def test_another_store_is_refused_and_what_serves_goes_on(
    change: dict[str, str], address: str
) -> None:
    world = serving(store=STORE)
    before = world.objects.copy()
    world.edit(store=STORE | change, defaults={"frames": 9, "steps": 7})
    decision = world.turn(60)
    assert not decision.children
    assert not decision.deletes
    assert world.objects == before
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "StoreChanged")
    assert f"now names {address}, and the photos" in message
    assert "are in http://minio:9000/videos/team, where" in message
    assert world.status["effective"]["store"]["bucket"] == "videos"
    assert [each.reason for each in decision.events] == ["StoreChanged"]
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert not world.turn(3600).events
    assert world.condition("Stalled")[1] == "StoreChanged"
    world.roll(ready=False)
    world.turn(60)
    assert world.condition("Ready")[0] == "False", "the numbers are those of now"
    world.edit(store=STORE)
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.served("worker")["defaults"]["steps"] == 7


def test_helm_values_move_no_service() -> None:
    """It says so, until it names its store for itself."""
    world = serving(store=None)
    world.settings = replace(world.settings, store_bucket="others")
    world.turn(60)
    assert world.condition("Stalled")[1] == "StoreChanged"
    world.edit(store={"bucket": "wan"})
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")


def test_access_and_region_may_change() -> None:
    world = serving(store=STORE)
    world.edit(store=STORE | {"region": "eu-west-1", "secretRef": {"name": "wan-other"}})
    world.settle()
    assert world.condition("Stalled") == ("", "", "")
    assert world.status["effective"]["store"]["secretName"] == "wan-other"


def test_a_store_in_which_nothing_is_may_be_corrected() -> None:
    """No worker was ready and nothing waits: the first one was misspelt, say."""
    world = World(tiny(store=STORE | {"bucket": "vidoes"}))
    world.settle()
    world.report = report(queue(queued=1))
    world.edit(store=STORE)
    world.turn(60)
    assert world.condition("Stalled")[1] == "StoreChanged", "its photo is there"
    world.report = report(queue())
    world.settle()
    assert world.condition("Ready")[:2] == ("True", "Serving")
    assert world.served()["store"]["bucket"] == "videos"
