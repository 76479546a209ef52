"""Services that serve what an evaluation found, and rollouts that wait for its gate."""

from __future__ import annotations

from typing import Any

import pytest

from unit.controller.evaluation_world import (
    BASE,
    GATE,
    OTHER,
    TUNED,
    VERDICT,
    EvaluationWorld,
    exported,
    gated,
)
from unit.controller.service_world import World, report, tiny, track
from wan_runtime.contract.job import ExitClass
from wan_runtime.contract.verdict import Verdict

Raw = dict[str, Any]
WINNER = {"name": "best", "fromEvaluation": {"name": "compare"}}
UNDECIDED = VERDICT.model_copy(update={"decision": "Inconclusive"})
NEITHER = VERDICT.model_copy(update={"decision": "Tie", "cheapest_good": None})
NAME_ONE = "has no winner: name one of its candidates in fromEvaluation.candidate"
ROLLOUT = {
    "strategy": "Canary",
    "deadlineSeconds": 600,
    "canary": {"percent": 20, "minVideos": 10},
    "gate": {"evaluationRef": {"name": "compare"}},
}


def evaluated(
    winner: str = "tuned", *, full: bool = False, verdict: Verdict = VERDICT, **spec: Any
) -> Raw:
    """A WanEvaluation that has ended."""
    world = EvaluationWorld(**{"candidates": [BASE, OTHER, TUNED], **spec})
    run = world.finetune(**exported())
    if full:
        run["spec"]["method"] = {"full": {}}
    world.compare(verdict.model_copy(update={"winner": winner or None}))
    return world.cr


def begun() -> Raw:
    """A WanEvaluation that is at work."""
    world = EvaluationWorld(gate=GATE)
    world.settle()
    return world.cr


# -- fromEvaluation


def test_an_adapter_is_the_winner_once_there_is_one() -> None:
    world = World(tiny(adapters=[WINNER]))
    world.turn()
    assert world.condition("Stalled")[1:] == (
        "EvaluationNotFound",
        "WanEvaluation compare does not exist in namespace team",
    )
    world.evaluations["compare"] = begun()
    world.turn()
    assert world.condition("Reconciling")[1] == "WaitingForEvaluation"
    assert world.condition("Stalled")[0] == ""
    world.evaluations["compare"] = evaluated()
    world.settle()
    (adapter,) = world.served("worker")["adapters"]
    assert (adapter["name"], adapter["artifact"]["sha256"]) == ("best", "b" * 64)
    assert world.condition("AdaptersReady")[:2] == ("True", "FineTunesDone")


def test_the_model_is_the_winner() -> None:
    model = {"preset": "Wan2.1-I2V-Tiny", "fromEvaluation": {"name": "compare"}}
    world = World(tiny(model=model))
    world.evaluations["compare"] = evaluated(full=True)
    world.settle()
    assert world.served("worker")["weights"]["sha256"] == "b" * 64
    assert world.status["weights"]["sha256"] == "b" * 64


def test_a_base_model_that_wins_is_served_as_it_is() -> None:
    model = {"preset": "Wan2.1-I2V-Tiny", "fromEvaluation": {"name": "compare"}}
    world = World(tiny(model=model))
    world.evaluations["compare"] = evaluated("base")
    world.settle()
    assert "weights" not in world.served("worker")
    assert world.condition("Ready")[:2] == ("True", "Serving")


def test_a_named_candidate_is_served_whoever_wins() -> None:
    named = {"name": "best", "fromEvaluation": {"name": "compare", "candidate": "tuned"}}
    world = World(tiny(adapters=[named]))
    world.evaluations["compare"] = evaluated("base")
    world.settle()
    assert world.served("worker")["adapters"][0]["artifact"]["sha256"] == "b" * 64


@pytest.mark.parametrize(
    ("place", "evaluation", "said"),
    [
        ("adapters", {"winner": "base"}, "is no LoRA: name it in spec.model.fromEvaluation"),
        ("model", {}, "is a LoRA: name it in spec.adapters[].fromEvaluation"),
        ("model", {"winner": "other"}, "is of Wan2.2-I2V-Tiny, the service of Wan2.1-I2V-Tiny"),
        ("model", {"winner": "", "verdict": UNDECIDED}, f"{NAME_ONE}, as base, the cheapest"),
        (
            "model",
            {"winner": "", "verdict": NEITHER},
            f"{NAME_ONE}, or compare on more clips; Tie: ",
        ),
        ("model", {"winner": "nobody"}, "has no candidate nobody: it has base"),
        (
            "model",
            {"winner": "ready", "candidates": [BASE, {"name": "ready", "videos": "s3://a/b"}]},
            "was not rendered by the evaluation",
        ),
    ],
)
def test_what_cannot_be_served_there_is_said(place: str, evaluation: Raw, said: str) -> None:
    model = {"preset": "Wan2.1-I2V-Tiny", "fromEvaluation": {"name": "compare"}}
    spec: Raw = {"model": model} if place == "model" else {"adapters": [WINNER]}
    world = World(tiny(**spec))
    world.evaluations["compare"] = evaluated(**evaluation)
    world.turn()
    status, reason, message = world.condition("Stalled")
    assert (status, reason) == ("True", "EvaluationUnsuitable")
    assert said in message


def test_a_failed_evaluation_is_named_and_what_was_served_stays() -> None:
    world = World(tiny(adapters=[WINNER]))
    world.evaluations["compare"] = evaluated()
    world.settle()
    before = world.status["revision"]
    failed = EvaluationWorld()
    failed.settle()
    failed.end("collect", ExitClass.INPUT, "no clip is left")
    failed.settle()
    world.evaluations["compare"] = failed.cr
    world.settle()
    assert world.status["revision"] == before
    assert world.condition("Ready")[0] == "True"


# -- The gate of a rollout


def proven(evaluation: Raw | None) -> tuple[World, str, str]:
    """A canary that did well; with the revisions that serve and prove themselves."""
    world = World(tiny(rollout=ROLLOUT))
    world.settle()
    before = world.status["revision"]
    if evaluation is not None:
        world.evaluations["compare"] = evaluation
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    new = world.running("canary")
    world.roll()
    world.turn()
    world.report = report(stable=track(100, 1, 10.0), canary=track(10, 0, 10.0))
    world.turn(5)
    return world, before, new


def test_a_canary_waits_for_the_gate_past_its_deadline() -> None:
    world, before, new = proven(begun())
    assert world.status["rollout"]["phase"] == "Gated"
    assert world.condition("Reconciling")[1] == "CanaryGated"
    assert "the gate of WanEvaluation compare is waited for" in world.status["rollout"]["message"]
    assert world.running("worker") == before
    assert world.rollout() == {"canary": new, "weight": 20}, "it keeps its share"
    world.report = None  # no gateway answers just now
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "Gated"
    world.evaluations["compare"] = evaluated(gate=GATE, verdict=gated(True))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "Promoting"
    world.settle()
    assert world.status["revision"] == new


@pytest.mark.parametrize("passed", [False, None])
def test_a_canary_goes_back_if_the_gate_did_not_pass(passed: bool | None) -> None:
    world, before, _ = proven(begun())
    world.evaluations["compare"] = evaluated(gate=GATE, verdict=gated(passed))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert (
        "the gate of WanEvaluation compare did not pass: psnr 21.3"
        in (world.status["rollout"]["message"])
    )
    assert world.running("worker") == before


def test_an_evaluation_that_failed_or_has_no_gate_passes_nothing() -> None:
    world, before, _ = proven(evaluated())
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert "it has none: set its spec.gate" in world.status["rollout"]["message"]
    assert world.running("worker") == before


def test_a_gate_that_is_not_there_is_waited_for() -> None:
    world, before, _ = proven(None)
    assert world.status["rollout"]["phase"] == "Gated"
    assert "compare, which does not exist" in world.status["rollout"]["message"]
    assert world.running("worker") == before


def test_a_canary_that_was_bad_goes_back_while_it_waits() -> None:
    world, before, _ = proven(begun())
    world.report = report(stable=track(100, 1, 10.0), canary=track(10, 10, 10.0))
    world.turn(5)
    assert world.status["rollout"]["phase"] == "RolledBack"
    assert world.running("worker") == before


def test_a_canary_that_loses_its_worker_while_it_waits_goes_on_waiting() -> None:
    world, _, _ = proven(begun())
    world.roll(ready=False)
    world.turn(3600)
    assert world.status["rollout"]["phase"] == "Gated"
    assert "1 canary workers" in world.status["rollout"]["message"]
    assert world.rollout() == {"weight": 0}, "no request waits for it"
    world.roll()
    world.turn()
    assert "is waited for" in world.status["rollout"]["message"]


def test_no_gate_is_passed_because_the_old_workers_are_down() -> None:
    world = World(tiny(rollout=ROLLOUT))
    world.settle()
    before = world.status["revision"]
    world.status["sizes"] = [{"size": "128x96", "seconds": 1}]  # it has served
    world.evaluations["compare"] = begun()
    world.roll(ready=False)
    ended = {"exitCode": 1, "reason": "Error"}
    state = {"waiting": {"reason": "CrashLoopBackOff"}, "lastState": {"terminated": ended}}
    world.pod("worker", containerStatuses=[{"name": "worker", "ready": False, "state": state}])
    world.edit(defaults={"frames": 9, "steps": 4})
    world.turn()
    assert world.status["rollout"]["phase"] == "Starting"
    assert world.running("worker") == before
    assert world.running("canary") not in ("", before)
