"""A WanEvaluation from the wait for its fine-tunes to its verdict."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.evaluation_world import (
    BASE,
    BUCKET,
    GATE,
    RATINGS,
    VERDICT,
    EvaluationWorld,
    gated,
)
from wan_operator.kinds import EVALUATION
from wan_runtime.contract.job import ExitClass


def test_candidates_are_rendered_side_by_side_and_then_compared() -> None:
    world = EvaluationWorld(ratings=RATINGS)
    world.settle()
    assert world.running == ["collect"]
    world.finish("collect")
    assert world.running == ["generate-base", "generate-other"]
    world.finish("generate-base")
    assert world.running == ["generate-other"]
    world.finish("generate-other")
    assert world.running == ["score"]
    world.finish("score")
    assert world.running == ["rate"]
    world.finish("rate")
    assert world.running == ["compare"]
    wanted = {"collect", "generate-base", "generate-other", "score", "rate"}
    assert world.job_file("compare").inputs.keys() == wanted
    assert world.job_file("rate").inputs.keys() == wanted - {"rate"}
    assert world.job_file("score").inputs.keys() == wanted - {"rate", "score"}
    world.finish("compare", verdict=VERDICT)
    assert world.leading == ("Complete", "Completed")
    assert "base wins by total: base leads other" in world.status["conditions"][0]["message"]


def test_the_status_has_the_table_the_winner_and_the_report() -> None:
    world = EvaluationWorld()
    world.compare()
    status = world.status
    assert (status["winner"], status["cheapestGood"], status["decision"]) == (
        "base",
        "base",
        "Winner",
    )
    assert status["reportUri"] == "s3://wan/compare/report.html"
    first, second = status["candidates"]
    assert first == {
        "name": "base", "clips": 12, "failed": 0, "quality": 0.6, "low": 0.5, "high": 0.7,
        "total": 0.6, "gpuSeconds": 3.5,
    }  # fmt: skip
    assert (second["name"], second["failed"]) == ("other", 2)
    assert world.condition("GatePassed") is None, "there is no gate"


@pytest.mark.parametrize("source", [BUCKET, {"persistentVolumeClaim": {"claimName": "models"}}])
def test_a_base_model_is_verified_once_for_all_that_read_it(source: dict[str, Any]) -> None:
    model = {"preset": "Wan2.1-I2V-14B-480P", "source": source}
    world = EvaluationWorld(
        candidates=[{"name": "one", "model": model}, {"name": "two", "model": model}, BASE]
    )
    world.settle()
    imports = ["import-one"] if "s3" in source else []
    assert world.running == ["collect", *imports]
    world.finish("collect", *imports)
    generates = ["generate-base", "generate-one", "generate-two"]
    assert world.running == generates
    expected = {"collect", "import"} if imports else {"collect"}
    assert world.job_file("generate-two").inputs.keys() == expected
    assert world.job_file("generate-base").inputs.keys() == {"collect"}
    pod = world.jobs["compare-generate-two-1"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    mounted = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert ("/models" in mounted) == (not imports)


def test_parts_render_and_measure_every_nth_clip() -> None:
    ready = {"name": "ready", "videos": "s3://data/videos"}
    world = EvaluationWorld(candidates=[BASE, ready], parallelism={"generate": 2, "score": 3})
    world.settle()
    world.finish("collect")
    assert world.running == ["generate-base-part1", "generate-base-part2", "generate-ready"]
    pod = world.jobs["compare-generate-ready-1"]["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    assert world.job_file("generate-ready").model is None
    assert world.job_file("generate-base-part2").shard is not None
    world.finish(*world.running)
    assert world.running == ["score-part1", "score-part2", "score-part3"]


def test_a_service_renders_through_its_api() -> None:
    key = {"name": "wan-keys", "key": "studio"}
    live = {"name": "live", "serviceRef": {"name": "videos", "model": "anime", "keySecretRef": key}}
    world = EvaluationWorld(candidates=[BASE, live])
    world.settle()
    world.finish("collect")
    service = world.work_of("generate-live").candidate("live").service
    assert service is not None
    assert (service.url, service.model) == ("http://videos.team.svc", "anime")
    pod = world.jobs["compare-generate-live-1"]["spec"]["template"]["spec"]
    mount = next(each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "service")
    assert service.key_file == f"{mount['mountPath']}/studio"
    source = next(each for each in pod["volumes"] if each["name"] == "service")
    assert source["secret"]["secretName"] == "wan-keys"
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]
    other = world.jobs["compare-generate-base-1"]["spec"]["template"]["spec"]
    assert "service" not in {each["name"] for each in other["volumes"]}


# -- Failures


def test_a_candidate_that_fails_does_not_end_the_run() -> None:
    world = EvaluationWorld()
    world.settle()
    world.finish("collect")
    world.end("generate-other", ExitClass.INPUT, "no such weights")
    world.settle()
    assert world.step("generate-other")["state"] == "Failed"
    assert world.step("generate-other")["message"] == "no such weights"
    assert [each.action for each in world.events if each.type == "Warning"] == ["GiveUpStep"]
    assert world.running == ["generate-base"]
    world.finish("generate-base")
    assert world.running == ["score"]
    assert world.job_file("score").inputs.keys() == {"collect", "generate-base"}
    assert {each.name for each in world.work_of("score").candidates} == {"base", "other"}
    world.compare()
    assert world.is_true("Complete")
    assert world.status["conditions"][0]["message"].endswith("; generate-other failed")


def test_the_candidates_of_a_base_model_that_fails_are_given_up_with_it() -> None:
    model = {"preset": "Wan2.1-I2V-14B-480P", "source": BUCKET}
    names = ("one", "two")
    world = EvaluationWorld(candidates=[*({"name": each, "model": model} for each in names), BASE])
    world.settle()
    world.finish("collect")
    assert world.running == ["generate-base", "import-one"]
    world.end("import-one", ExitClass.INPUT, "no such folder")
    world.settle()
    states = {each["name"]: each["state"] for each in world.status["steps"]}
    assert states["import-one"] == "Failed"
    assert {states["generate-one"], states["generate-two"]} == {"Stopped"}
    assert world.step("generate-two")["message"] == "import-one failed: no such folder"
    assert world.running == ["generate-base"]


def test_without_any_candidate_left_the_run_fails() -> None:
    world = EvaluationWorld()
    world.settle()
    world.finish("collect")
    world.end("generate-other", ExitClass.INPUT, "no such weights")
    world.settle()
    world.end("generate-base", ExitClass.INPUT, "no such weights either")
    world.settle()
    assert world.leading == ("Failed", "ClipInvalid")
    assert "no such weights either" in world.status["conditions"][0]["message"]


def test_a_step_of_all_candidates_ends_the_run() -> None:
    world = EvaluationWorld(gate=GATE)
    world.settle()
    world.finish("collect")
    world.finish("generate-base", "generate-other")
    world.end("score", ExitClass.INPUT, "no clip is left")
    world.settle()
    assert world.leading == ("Failed", "ClipInvalid")
    gate = world.condition("GatePassed")
    assert gate is not None
    assert gate["status"] == "Unknown", "a gate never passes on missing data"


def test_a_lost_pod_of_a_candidate_is_tried_again() -> None:
    world = EvaluationWorld(retries={"infrastructure": 1})
    world.settle()
    world.finish("collect")
    world.loses_pod("compare-generate-base-1")
    world.settle()
    assert world.step("generate-base")["state"] == "Waiting"
    world.passes(60)
    world.settle()
    assert world.running == ["generate-base", "generate-other"]
    world.loses_pod("compare-generate-base-2")
    world.settle()
    assert world.step("generate-base")["state"] == "Failed"
    assert "all 1 retries are used up" in world.step("generate-base")["message"]


# -- Gate


@pytest.mark.parametrize(
    ("passed", "status", "reason"),
    [
        (True, "True", "GatePassed"),
        (False, "False", "GateNotPassed"),
        (None, "Unknown", "GateUndecided"),
    ],
)
def test_the_gate_says_what_was_found(passed: bool | None, status: str, reason: str) -> None:
    world = EvaluationWorld(gate=GATE)
    world.settle()
    waiting = world.condition("GatePassed")
    assert waiting is not None
    assert (waiting["status"], waiting["reason"]) == ("Unknown", "GateWaiting")
    world.compare(gated(passed))
    gate = world.condition("GatePassed")
    assert gate is not None
    assert (gate["status"], gate["reason"]) == (status, reason)
    assert gate["message"] == "psnr 21.3 (20.1 to 22.5)"
    assert world.leading == ("Complete", "Completed")


@pytest.mark.parametrize("verdict", [None, VERDICT], ids=["no-verdict", "none-on-the-gate"])
def test_a_gate_without_a_verdict_never_passes(verdict: Any) -> None:
    world = EvaluationWorld(gate=GATE)
    world.compare(verdict)
    gate = world.condition("GatePassed")
    assert gate is not None
    assert (gate["status"], gate["reason"]) == ("Unknown", "GateUndecided")


@pytest.mark.parametrize(
    ("size", "cpu"), [({"width": 128, "height": 96}, "500m"), ({"width": 1280, "height": 720}, "4")]
)
def test_pods_that_read_videos_are_as_large_as_these(size: dict[str, int], cpu: str) -> None:
    """A candidate that is ready says nothing of the size."""
    ready = {"name": "ready", "videos": "s3://data/videos"}
    candidates = [{"name": "base", "model": {"preset": "Wan2.1-I2V-Tiny"}}, ready]
    world = EvaluationWorld(candidates=candidates, sampling={"size": size, "frames": 81})
    world.settle()
    [container] = world.jobs["compare-collect-1"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == cpu


# -- The page for raters


def open_world() -> EvaluationWorld:
    world = EvaluationWorld(ratings={**RATINGS, "deadlineSeconds": 3600})
    world.open_page()
    return world


def test_the_page_is_reached_while_people_rate() -> None:
    world = open_world()
    service = world.others["Service"]["compare-ratings"]
    pod = world.pods["compare-rate-1"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    [container] = world.jobs["compare-rate-1"]["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert ports["http"] == service["spec"]["ports"][0]["targetPort"]
    policy = world.others["NetworkPolicy"]["compare-ratings"]
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]
    assert world.status["ratings"] == {
        "url": "http://compare-ratings.team.svc",
        "deadline": "2026-11-22T13:00:00Z",
    }
    world.compare()
    world.settle()
    assert not any(world.others.values())
    assert world.status["ratings"] == {"url": "", "deadline": "2026-11-22T13:00:00Z"}


def test_a_run_that_ends_while_people_rate_closes_the_page() -> None:
    world = open_world()
    world.edit(activeDeadlineSeconds=60)
    world.passes(61)
    world.look()
    assert world.is_true("Failed")
    assert any(world.others.values()), "the decision that ends it knows an open page"
    assert EVALUATION.needs_reconcile(world.cr)
    world.settle()
    assert not any(world.others.values())
    assert not EVALUATION.needs_reconcile(world.cr)


def test_an_edit_of_the_deadline_reaches_the_pod_that_runs() -> None:
    world = open_world()
    pod = world.pods["compare-rate-1"]
    world.edit(ratings={**RATINGS, "deadlineSeconds": 7200})
    world.settle()
    assert world.pods["compare-rate-1"] is pod, "nobody is interrupted"
    ratings = world.work_of("rate").ratings
    assert ratings is not None
    assert ratings.deadline_seconds == 7200
    assert world.status["ratings"]["deadline"] == "2026-11-22T14:00:00Z"


def test_it_is_held_before_it_begins_and_later() -> None:
    world = EvaluationWorld(suspend=True)
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
    assert "effective" not in world.status
    world.edit(suspend=False)
    world.settle()
    assert world.running == ["collect"]
    world.edit(suspend=True)
    world.settle()
    world.removes_deleted()
    world.settle()
    assert world.leading == ("Suspended", "SuspendedByUser")
