"""Attempts of several pods, one a rank, as an Indexed Job has them."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from unit.controller.world import REASON_OF, World
from wan_operator.reconcile.observed import Observed, finished, is_deleting
from wan_operator.reconcile.runs.attempted import RANK, Attempted
from wan_operator.reconcile.runs.report import progress_addresses
from wan_runtime.contract.job import ExitClass, ManifestRef, Result
from wan_runtime.contract.reasons import Reason

Raw = dict[str, Any]
JOB = "demo-train-1"


class Ranks(World):
    """A run whose train step has three pods. Pods are named by their rank."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(**spec)
        self.reach("train")
        self.jobs[JOB]["spec"] |= {"completions": 3, "completionMode": "Indexed"}
        pod = self.pods.pop(JOB)
        for rank in (2, 0, 1):
            self.pods[f"{JOB}-{rank}"] = each = copy.deepcopy(pod)
            each["metadata"]["name"] = f"{JOB}-{rank}-abcde"
            each["metadata"]["labels"][RANK] = str(rank)
            each["spec"]["nodeName"] = f"node-{rank}"

    def rank(
        self,
        rank: int,
        exit_class: ExitClass | None = None,
        after: float = 0,
        reason: Reason | None = None,
    ) -> None:
        """Starts the pod, or ends it so many seconds after now."""
        name = f"{JOB}-{rank}"
        if exit_class is None:
            self.starts(name)
            return
        at = self.now + timedelta(seconds=after)
        manifest = ManifestRef(uri=f"s3://wan/rank-{rank}/manifest.json", sha256="a" * 64)
        said = Result(
            step_id="train", exit_class=exit_class, reason=reason or REASON_OF[exit_class],
            message=f"rank {rank}", manifest=manifest if exit_class is ExitClass.DONE else None,
        )  # fmt: skip
        ended = {
            "exitCode": int(exit_class),
            "message": said.dump(),
            "startedAt": self.now.isoformat(),
            "finishedAt": at.isoformat(),
        }
        self._state(name, "Failed" if exit_class else "Succeeded", {"terminated": ended})

    def all_start(self) -> None:
        for rank in range(3):
            self.rank(rank)
        self.settle()


def test_a_step_runs_once_all_its_ranks_do() -> None:
    world = Ranks()
    world.rank(0)
    world.rank(2)
    world.settle()
    assert world.leading == ("Reconciling", "StepStarting")
    world.passes(40)
    world.rank(1)
    world.settle()
    assert world.leading == ("Running", "StepRunning")
    running = world.condition("Running")
    assert running is not None
    assert f"runs as pod {JOB}-0-abcde on node-0 and 2 more" in running["message"]
    assert world.step("train")["runningSince"] == f"{world.now:%Y-%m-%dT%H:%M:%SZ}", "of the last"


def test_the_rank_that_cannot_start_says_why() -> None:
    world = Ranks()
    world.rank(0)
    world.rank(1)
    scheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes have a GPU"}
    world.pods[f"{JOB}-2"]["status"]["conditions"] = [scheduled]
    container = {"image": "registry.example/x", "resources": {"limits": {"nvidia.com/gpu": "4"}}}
    world.pods[f"{JOB}-2"]["spec"]["containers"] = [container]
    world.settle()
    assert world.leading == ("Reconciling", "Unschedulable")
    waits = world.condition("Reconciling")
    assert waits is not None
    assert waits["message"] == (f"0/3 nodes have a GPU; pod {JOB}-2-abcde needs 4 GPUs on one node")


def test_a_rank_that_has_no_pod_is_awaited() -> None:
    world = Ranks()
    world.rank(0)
    world.rank(1)
    del world.pods[f"{JOB}-2"]
    world.passes(61)
    world.settle()
    assert world.leading == ("Reconciling", "PodNotCreated")


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_rank_that_fails_is_the_cause(first: int) -> None:
    """The others fail for its sake: by a lost connection, or because they are stopped."""
    world = Ranks(retries={"outOfMemory": 0})
    world.all_start()
    others = [rank for rank in range(3) if rank != first]
    world.rank(others[0], ExitClass.INFRASTRUCTURE, after=5)
    world.rank(first, ExitClass.OUT_OF_MEMORY, after=1)
    world.rank(others[1], ExitClass.STOPPED, after=9)
    world._finish_job(JOB, "Failed")
    world.settle()
    failure = world.status["lastFailure"]
    assert (failure["reason"], failure["node"]) == ("GPUOutOfMemory", f"node-{first}")
    assert world.is_true("Failed")


def test_a_lost_rank_is_the_cause_of_nothing_and_blames_no_node() -> None:
    world = Ranks()
    world.all_start()
    world.rank(0, ExitClass.INFRASTRUCTURE, reason=Reason.RANK_LOST)
    world.rank(2, ExitClass.INFRASTRUCTURE, after=1)
    world._finish_job(JOB, "Failed")
    world.settle()
    failure = world.status["lastFailure"]
    assert (failure["reason"], failure["node"]) == ("StoreUnreachable", "node-2")
    alone = Ranks()
    alone.all_start()
    alone.rank(0, ExitClass.INFRASTRUCTURE, reason=Reason.RANK_LOST)
    alone._finish_job(JOB, "Failed")
    alone.settle()
    del alone.pods[f"{JOB}-1"], alone.pods[f"{JOB}-2"]
    alone.settle()
    alone.passes(30)
    alone.settle()
    assert alone.status["lastFailure"]["reason"] == "RankLost"
    assert "affinity" not in alone.jobs["demo-train-2"]["spec"]["template"]["spec"]


def test_a_lost_rank_that_is_seen_first_is_not_taken_for_the_cause() -> None:
    """The kubelet of the other may be slower to say that it died."""
    world = Ranks()
    world.all_start()
    world.rank(0, ExitClass.INFRASTRUCTURE, reason=Reason.RANK_LOST)
    world.settle()
    assert world.step("train")["state"] == "Running"
    world.rank(2, ExitClass.INFRASTRUCTURE)
    world.settle()
    failure = world.status["lastFailure"]
    assert (failure["reason"], failure["node"]) == ("StoreUnreachable", "node-2")


def test_one_rank_that_fails_ends_the_attempt_while_others_run() -> None:
    world = Ranks()
    world.all_start()
    world.rank(1, ExitClass.NUMERICAL)
    world.settle()
    assert world.is_true("Failed")


def test_a_rank_that_fails_keeps_its_log_and_the_next_attempt_waits_for_the_others() -> None:
    world = Ranks()
    world.all_start()
    world.rank(1, ExitClass.INFRASTRUCTURE)
    world.settle()
    assert world.step("train")["state"] == "Waiting"
    assert not is_deleting(world.jobs[JOB]), "its controller has not counted the pod"
    world._finish_job(JOB, "Failed")
    for rank in (0, 2):
        end = world.now + timedelta(seconds=120)
        world.pods[f"{JOB}-{rank}"]["metadata"]["deletionTimestamp"] = end.isoformat()
    world.passes(60)
    world.settle()
    waits = world.condition("Reconciling")
    assert waits is not None
    assert waits["message"] == f"waits until Job {JOB} has stopped"
    world.rank(0, ExitClass.STOPPED)
    world.passes(60)
    world.settle()
    assert world.created[-1] == JOB, "rank 2 may be about to end"
    world.passes(60)
    world.settle()
    assert world.created[-1] == "demo-train-2", "the node of rank 2 is lost"
    assert JOB in world.jobs


def test_a_job_that_a_queue_holds_does_not_end_by_itself() -> None:
    world = Ranks()
    world.all_start()
    world.rank(1, ExitClass.NUMERICAL)
    world.jobs[JOB]["spec"]["suspend"] = True
    world.settle()
    assert JOB not in world.jobs


def test_it_is_done_once_all_ranks_are_and_rank_0_has_the_result() -> None:
    world = Ranks()
    world.all_start()
    world.rank(0, ExitClass.DONE)
    world.rank(2, ExitClass.DONE)
    world.jobs[JOB]["status"] = {"succeeded": 2}
    assert not finished(world.jobs[JOB])
    world.settle()
    assert world.leading == ("Running", "StepRunning")
    world.rank(1, ExitClass.DONE)
    world.jobs[JOB]["status"] = {"succeeded": 2, "uncountedTerminatedPods": {"succeeded": ["uid"]}}
    assert finished(world.jobs[JOB])
    world.settle()
    assert world.step("train")["state"] == "Complete"
    assert world.step("train")["artifact"]["uri"] == "s3://wan/rank-0/manifest.json"


def test_without_the_pod_of_rank_0_its_result_is_lost() -> None:
    world = Ranks()
    world.all_start()
    del world.pods[f"{JOB}-0"]
    world.rank(1, ExitClass.DONE)
    world.rank(2, ExitClass.DONE)
    world._finish_job(JOB, "Complete")
    world.settle()
    assert world.step("train")["reason"] == "PodLost"


def test_only_rank_0_is_asked_for_its_progress() -> None:
    world = Ranks()
    world.all_start()
    for rank in range(3):
        world.pods[f"{JOB}-{rank}"]["status"]["podIP"] = f"10.0.0.{rank}"
    world.passes(60)
    observed = Observed(children=world.children)
    asked = progress_addresses(world.cr, observed, world.settings, world.now)
    assert asked == {"train": "10.0.0.0"}


def test_it_is_over_and_stopping_by_all_its_pods() -> None:
    world = Ranks()
    world.all_start()
    world.rank(0, ExitClass.STOPPED)
    world.jobs[JOB]["metadata"]["deletionTimestamp"] = world.now.isoformat()

    def attempted() -> Attempted:
        return Attempted.read(world.jobs[JOB], world.pods.values())

    assert (attempted().is_over, attempted().is_stopping(world.now), attempted().is_running) == (
        False, True, True,
    )  # fmt: skip
    world.rank(1, ExitClass.STOPPED)
    world.rank(2, ExitClass.STOPPED)
    assert (attempted().is_over, attempted().is_stopping(world.now), attempted().is_running) == (
        True, False, False,
    )  # fmt: skip
