"""What was mended reaches pods that wait, and never one that runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.controller.world import SETTINGS, World
from wan_operator.resources.jobs import avoidance
from wan_runtime.contract.job import ExitClass

Raw = dict[str, Any]
Edit = dict[str, Any]

PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
EDITS: list[Edit] = [
    {"podTemplate": {"nodeSelector": {"pool": "gpu"}}},
    {"podTemplate": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}},
    {"podTemplate": {"priorityClassName": "research"}},
    {"podTemplate": {"serviceAccountName": "trainer"}},
    {"podTemplate": {"runtimeClassName": "nvidia"}},
    {
        "podTemplate": {
            "affinity": {
                "podAntiAffinity": {
                    PREFERRED: [
                        {
                            "weight": 1,
                            "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {}},
                        }
                    ]
                }
            }
        }
    },
    {
        "podTemplate": {
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
            ]
        }
    },
    {"podTemplate": {"securityContext": {}}},
    {"resources": {"cpuLimit": "250m"}},
    {"output": {"formats": ["ComfyUI"]}},
]
SETTING: list[Edit] = [
    {"runtime_image": "registry.example/wan-runtime@sha256:1"},
    {"image_pull_secrets": ("registry",)},
    {"image_pull_policy": "Always"},
]


def waiting_world() -> World:
    world = World()
    world.settle()
    world.waits("ErrImagePull", "not found")
    world.settle()
    assert world.open_job == "demo-prepare-1"
    return world


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_replaces_a_pod_that_has_not_begun(edit: Edit) -> None:
    world = waiting_world()
    world.edit(**edit)
    world.settle()
    assert world.open_job == "demo-prepare-2"
    assert "demo-prepare-1" not in world.jobs
    step = world.status["steps"][0]
    assert step.get("infrastructureRetries", 0) == 0
    assert [each.message for each in world.events if each.action == "ReplaceStep"] == [
        "prepare starts anew: Job demo-prepare-1 had not begun, and is wanted otherwise"
    ]
    world.starts()
    world.settle()
    assert world.leading == ("Running", "StepRunning")


@pytest.mark.parametrize("setting", SETTING)
def test_a_setting_of_the_operator_does_too(setting: Edit) -> None:
    world = waiting_world()
    world.settings = replace(SETTINGS, **setting)
    world.settle()
    assert world.open_job == "demo-prepare-2"
    before = world.writes
    world.settle()
    assert world.writes == before


@pytest.mark.parametrize("edit", EDITS[:3])
def test_what_runs_is_not_disturbed(edit: Edit) -> None:
    world = World()
    world.settle()
    world.starts()
    world.settle()
    world.edit(**edit)
    world.settings = replace(SETTINGS, **SETTING[0])
    world.settle()
    assert world.open_job == "demo-prepare-1"


def test_an_edit_that_the_step_does_not_depend_on_replaces_nothing() -> None:
    world = waiting_world()
    world.edit(retries={"infrastructure": 1}, ttlSecondsAfterFinished=60)
    world.settle()
    assert world.open_job == "demo-prepare-1"


def test_a_pod_that_avoids_the_node_of_the_last_end_is_left_alone() -> None:
    world = World()
    world.settle()
    world.starts()
    world.exits(137)
    world.settle()
    world.passes(3600)
    world.settle()
    assert world.open_job == "demo-prepare-2"
    spec = world.jobs["demo-prepare-2"]["spec"]["template"]["spec"]
    assert "affinity" in spec
    world.cr["status"].pop("lastFailure")  # as an import's is, once the next attempt is open
    world.settle()
    assert world.open_job == "demo-prepare-2"


def nodes(*terms: Raw) -> Raw:
    return {"affinity": {"nodeAffinity": {PREFERRED: list(terms)}}}


FAST = {
    "weight": 7,
    "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
}


@pytest.mark.parametrize("term", [FAST, avoidance("node-7")], ids=["other", "like ours"])
def test_the_own_affinity_is_compared_apart_from_the_node_that_is_avoided(term: Raw) -> None:
    world = World()
    world.settle()
    world.edit(podTemplate=nodes(term))
    world.settle()
    assert world.open_job == "demo-prepare-2"
    world.starts()
    world.exits(137)
    world.settle()
    world.passes(3600)
    world.settle()

    def preferences() -> list[Raw]:
        job = world.jobs[world.open_job]
        found: list[Raw] = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][PREFERRED]
        return found

    assert preferences() == [term, avoidance("node-1")]
    third = world.open_job
    world.cr["status"]["lastFailure"]["node"] = "node-2"
    for _ in range(2):
        world.settle()
        assert world.open_job == third
        world.cr["status"].pop("lastFailure", None)
    world.edit(podTemplate=nodes(term, FAST))
    world.settle()
    assert world.open_job != third, "an edit of the own affinity replaces it"
    assert preferences() == [term, FAST]
    fourth = world.open_job
    world.edit(podTemplate=nodes(FAST))
    world.settle()
    assert world.open_job != fourth
    assert preferences() == [FAST]
    world.edit(podTemplate={"affinity": {"nodeAffinity": {PREFERRED: []}}})
    world.settle()
    last = world.open_job
    assert "affinity" not in world.jobs[last]["spec"]["template"]["spec"]
    world.settle()
    assert world.open_job == last


def test_an_edit_ends_the_wait_for_a_retry() -> None:
    world = World()
    world.settle()
    world.starts()
    world.ends(ExitClass.INFRASTRUCTURE)
    world.settle()
    assert not world.running_jobs()
    world.edit(resources={"memory": "8Gi"})
    world.settle()
    assert world.open_job == "demo-prepare-2"
    assert world.status["steps"][0]["infrastructureRetries"] == 1, "what failed stays counted"
