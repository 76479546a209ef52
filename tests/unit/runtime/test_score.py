"""Every video beside its recorded clip, and the whole evaluation in four steps."""

from __future__ import annotations

import json
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

from evaluations import Evaluation
from moving import FRAMES, moving_picture
from wan_runtime.artifacts import documents
from wan_runtime.artifacts.errors import ArtifactCorrupt
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.clip_scores import ClipScores, Score
from wan_runtime.contract.evaluation import evaluation_of
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError
from wan_runtime.evaluation import kept_scores, measuring, score, weights
from wan_runtime.evaluation.kept_scores import ScoreCache
from wan_runtime.evaluation.measuring import Measurers, Order
from wan_runtime.evaluation.metrics.score import Limits
from wan_runtime.evaluation.records import SCORES, Measured, Scores

pytest_plugins = ["evaluation_fixtures"]

COUNT = 8


def noisy(number: int, levels: float, frames: int = FRAMES) -> np.ndarray:
    """A clip of `upload_few` with noise: uint8 [F, H, W, 3]."""
    clean = moving_picture(number, frames).astype(float)
    noise = np.random.default_rng(number).normal(0, levels, clean.shape)
    return (clean + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def collected(evaluation: Evaluation) -> Evaluation:
    evaluation.upload_few(COUNT)
    evaluation.spec = evaluation.spec.model_copy(update={"prefix": evaluation.name})
    evaluation.go(Step.COLLECT)
    evaluation.add("close")
    evaluation.add("far")
    return evaluation


def scores(evaluation: Evaluation, **change: object) -> list[Measured]:
    ref = evaluation.go(Step.SCORE, **change).manifest
    return list(documents.read(evaluation.store, ref, SCORES, Scores).measured)


def test_collect_generate_score_compare(collected: Evaluation) -> None:
    collected.work["legacy_psnr"] = True
    for clip in range(COUNT):
        collected.put(f"close/clip{clip}.mp4", noisy(clip, 4))
        collected.put(f"far/clip{clip}.mp4", noisy(clip, 25))
    for name in ("close", "far"):
        collected.go(Step.GENERATE, candidate=name)
    outcome = collected.go(Step.SCORE)
    assert outcome.summary == {"clips": COUNT, "videos": 2 * COUNT, "failed": 0}
    verdict = collected.go(Step.COMPARE).verdict
    assert verdict is not None
    assert (verdict.decision, verdict.winner) == ("Winner", "close")
    assert [each.name for each in verdict.standings] == ["close", "far"]
    measured = collected.result().scores.measured
    wrapped = [each.legacy_psnr_uint8 for each in measured if each.candidate == "far"]
    assert min(wrapped) > max(each.values["psnr"] for each in measured if each.candidate == "far")


def test_what_cannot_be_measured_stays_as_a_failure(collected: Evaluation) -> None:
    place = f"{collected.name}/close"
    whole = collected.put("close/clip-0001.mp4", noisy(0, 4))
    collected.put("close/clip-0002.mp4", noisy(1, 4, 5))
    cut = collected.store.get_bytes(collected.store.parse(whole)[1])
    collected.store.put_bytes(f"{place}/clip-0003.mp4", cut[: len(cut) * 2 // 3])
    collected.put("close/clip-0004.mp4", noisy(3, 4))
    collected.put("close/clip-0006.mp4", noisy(5, 4))
    collected.go(Step.GENERATE, candidate="close")
    collected.put("close/clip-0004.mp4", noisy(4, 4))
    collected.store.delete([f"{place}/clip-0006.mp4"])
    good, short, broken, changed, missing, deleted, *_ = scores(collected)
    assert good.failure == ""
    assert good.frames == FRAMES - 1
    assert 30 < good.values["psnr"] < 40
    assert short.failure == "it has 5 frames at 16 fps, and the clip 9"
    assert "does not decode" in broken.failure
    assert changed.failure.startswith("it was changed after it was found: ")
    assert deleted.failure.startswith("it was changed after it was found: ")
    assert missing.failure.endswith("has no clip-0005.mp4 and no clip4.mp4")


def test_a_changed_video_of_the_cache_is_no_failure_of_its_candidate(collected: Evaluation) -> None:
    collected.put("close/clip-0001.mp4", noisy(0, 4))
    collected.go(Step.GENERATE, candidate="close")
    collected.put("close/clip-0001.mp4", noisy(1, 4))
    rendered = [{"name": "close", "preset": "Wan2.1-I2V-Tiny"}]
    with pytest.raises(ArtifactCorrupt, match=r"clip-0001.mp4 has"):
        scores(collected, work={"candidates": rendered})


def test_pods_share_the_clips_and_another_rate_and_window_are_compared(
    evaluation: Evaluation,
) -> None:
    """The recorded clip has 32 fps, and its middle is compared; the videos have 16 and are of
    twice the size."""
    clips = [moving_picture(number, 40) for number in range(2)]
    evaluation.upload({f"clip{n}.mp4": frames for n, frames in enumerate(clips)})
    for number, frames in enumerate(clips):
        evaluation.put(f"data/clip{number}.mp4", frames, fps=32)
        middle = frames[10:28:2].repeat(2, axis=1).repeat(2, axis=2)
        evaluation.put(f"ours/clip{number}.mp4", middle)
    dataset = evaluation.dataset(window="Middle")
    evaluation.work["clips"] = {"dataset": dataset}
    evaluation.add("ours")
    evaluation.go(Step.COLLECT)
    evaluation.go(Step.GENERATE, candidate="ours")
    (second,) = scores(evaluation, shard={"index": 1, "count": 2})
    assert second.clip == "clip-0002"
    assert second.values["psnr"] > 35


CRASHING = """
import os, signal
from multiprocessing.connection import Connection

received = Connection.recv

def recv(self):
    order = received(self)
    if order.candidate.name.startswith(os.environ["CRASH"]):
        os.kill(os.getpid(), signal.SIGSEGV)
    return order

Connection.recv = recv
"""
"""What a process that scores clips begins with."""


def test_a_clip_that_ends_the_process_natively_is_a_failure_and_the_others_are_measured(
    collected: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for clip in range(3):
        collected.put(f"close/clip{clip}.mp4", noisy(clip, 4))
    collected.go(Step.GENERATE, candidate="close")
    (tmp_path / "sitecustomize.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CRASH", "clip-0002-close")
    monkeypatch.setattr(score, "measurers", measuring.measurers)
    monkeypatch.setattr(score, "THREADS", 1)  # a process takes a second to start
    first, crashed, third, *_ = scores(collected)
    assert crashed.failure == "the process that measured it was ended by SIGSEGV, 2 times"
    assert min(first.values["psnr"], third.values["psnr"]) > 30


def test_what_hangs_in_native_code_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No process starts within 0 s: to its caller it hangs."""
    monkeypatch.setattr(measuring, "GRACE", 0.0)
    order = Order(*[tmp_path / "none"] * 3, metrics=["psnr", "ssim"], limits=Limits(seconds=0))
    with measuring.measurers() as processes:
        found = processes.scored(order).scores
    assert {name: each.reason for name, each in found.items()} == {
        "psnr": "TimedOut",
        "ssim": "TimedOut",
    }


class Killed(BaseException):
    """The end of a pod."""


class Counting:
    """The processes of one attempt: what they were asked for, and how many clips they live."""

    def __init__(self, processes: Measurers, limit: int) -> None:
        self.processes, self.limit = processes, limit
        self.asked: list[tuple[str, list[str]]] = []

    def scored(self, order: Order) -> ClipScores:
        if len(self.asked) == self.limit:
            raise Killed
        self.asked.append((order.candidate.name[:9], [*order.metrics]))
        return self.processes.scored(order)


def test_nothing_is_measured_twice(
    collected: Evaluation, processes: Measurers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that was killed goes on, and another metric is measured alone."""
    for clip in range(3):
        collected.put(f"close/clip{clip}.mp4", noisy(clip, 4))
    collected.go(Step.GENERATE, candidate="close")
    monkeypatch.setattr(score, "THREADS", 1)

    def measured(
        limit: int = 99, **work: object
    ) -> tuple[list[tuple[str, list[str]]], list[float]]:
        made = Counting(processes, limit)
        monkeypatch.setattr(score, "measurers", lambda: nullcontext(made))
        found = []
        with suppress(Killed):
            found = [each.values["psnr"] for each in scores(collected, work=work)[:3]]
        return made.asked, found

    both = ["psnr", "ssim"]
    assert measured(limit=1) == ([("clip-0001", both)], [])
    asked, first = measured()
    assert asked == [("clip-0002", both), ("clip-0003", both)]
    assert measured() == ([], first)
    assert measured(metrics=["psnr", "lpips"]) == ([], first), "nothing is decoded for LPIPS"
    asked, values = measured(metrics=["flicker", "psnr"])
    assert asked == [(f"clip-000{number}", ["flicker"]) for number in (1, 2, 3)]
    assert values == first

    monkeypatch.setattr(kept_scores, "computed_by", lambda *_: "another definition")
    assert len(measured()[0]) == 3
    collected.put("close/clip0.mp4", noisy(0, 8))
    collected.go(Step.GENERATE, candidate="close")
    asked, values = measured()
    assert asked == [("clip-0001", both)]
    assert values[0] < first[0]


def test_weights_of_two_metrics_are_brought_once(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, folder = evaluation.store, f"{evaluation.name}/weights"
    names = ("vbench_i2v_subject", "vbench_subject_consistency")
    for file in ("config.json", "model.safetensors"):
        store.put_bytes(f"{folder}/dino-vitb16/{file}", file.encode())
    asked: list[str] = []
    download = Store.download

    def counted(self: Store, key: str, *arguments: object, **options: object) -> object:
        asked.append(key.rpartition("/")[2])
        return download(self, key, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "download", counted)
    work: dict[str, object] = {"metrics": names, "metric_weights": f"s3://{store.bucket}/{folder}"}
    found = weights.fetch(evaluation_of(evaluation.job(Step.SCORE, work=work)), store, tmp_path)
    assert asked == ["config.json", "model.safetensors"]
    assert (tmp_path / "dino-vitb16" / "model.safetensors").read_text() == "model.safetensors"
    assert found[names[0]] == found[names[1]]


def test_a_damaged_object_of_the_cache_is_measured_again(collected: Evaluation) -> None:
    collected.put("close/clip0.mp4", noisy(0, 4))
    collected.go(Step.GENERATE, candidate="close")
    first = scores(collected)[0].values
    prefix = f"{collected.job(Step.SCORE).cache_prefix}/scores/"
    for each in [*collected.store.list(prefix)]:
        collected.store.put_bytes(each.key, json.dumps({"known": 1}).encode())
    assert scores(collected)[0].values == first


def test_a_time_limit_leaves_what_is_known_of_a_video(evaluation: Evaluation) -> None:
    """A video that is too small for a metric is so whether the other metrics end in time or not."""
    cache = ScoreCache(evaluation.store, evaluation.name)
    small = Score(reason="TooSmall")
    cache.keep("known", ClipScores(scores={"psnr": Score(value=30)}, frames_compared=FRAMES - 1))
    late = {"ssim": small, "flicker": Score(reason="TimedOut")}
    cache.keep("known", ClipScores(scores=late))
    found = cache.find("known", ["psnr", "ssim"])
    assert found is not None
    assert found.frames_compared == FRAMES - 1
    assert found.scores == {"psnr": Score(value=30)}
    cache.keep("known", ClipScores(scores={"ssim": small}, frames_compared=FRAMES - 1))
    found = cache.find("known", ["psnr", "ssim"])
    assert found is not None
    assert found.scores["ssim"] == small


def test_an_edit_of_what_needs_weights_is_checked_again(evaluation: Evaluation) -> None:
    """A step that has committed is not run again for a job of the same identity."""

    def identity(**work: object) -> dict[str, object]:
        return evaluation.job(Step.COLLECT, work=work).identity

    plain = identity(metrics=["psnr"])
    assert plain.keys() == {"step", "inputs", "clips", "size", "seed"}, "as earlier releases had it"
    assert identity(metrics=["psnr", "ssim"], decision={"metric": "ssim"}) == plain
    assert identity(metrics=["psnr", "lpips"]) == plain, "without weights it has no number"
    there: dict[str, object] = {"metric_weights": "s3://wan/weights"}
    assert identity(metrics=["psnr"], **there) == plain
    lpips: dict[str, object] = {"metrics": ["psnr", "lpips"], **there}
    both: dict[str, object] = {**lpips, "metrics": ["lpips", "clip_similarity"]}
    limit: dict[str, object] = {"gate": {"largest_regressions": {"lpips": 0.1}}}
    edits = [
        plain,
        identity(**lpips),
        identity(**lpips, **limit),
        identity(**both),
        identity(**{**lpips, "metric_weights": "s3://wan/others"}),
        identity(metrics=["psnr", "lpips"], decision={"metric": "lpips"}),
        identity(metrics=["ms_ssim"], decision={"metric": "ms_ssim"}),
        identity(metrics=["ms_ssim"], decision={"metric": "ms_ssim"}, score_on_gpu=True),
    ]
    assert all(one not in edits[:number] for number, one in enumerate(edits))


def test_videos_by_the_default_of_an_earlier_release_are_others(evaluation: Evaluation) -> None:
    """Where steps are left out, the identity names the rule; elsewhere it is as it was."""
    preset = "Wan2.1-I2V-Tiny"

    def candidate(**fields: object) -> object:
        made = [{"name": "made", "preset": preset, **fields}]
        job = evaluation.job(Step.GENERATE, candidate="made", work={"candidates": made})
        return job.identity["candidate"]

    for profile in ("Balanced", "Fast"):
        stated = {"name": "made", "preset": preset, "profile": profile}
        assert candidate(profile=profile) == {**stated, "step_cache": "Spaced"}
        assert candidate(profile=profile, stepCache="Spaced") == candidate(profile=profile)
        other = candidate(profile=profile, stepCache="EasyCache")
        assert other == {**stated, "step_cache": "EasyCache"}
    assert candidate() == {"name": "made", "preset": preset}
    exact = {"name": "made", "preset": preset, "profile": "Exact"}
    assert candidate(profile="Exact") == exact


def test_what_decides_and_no_clip_can_have_is_said_before_a_gpu_works(
    collected: Evaluation,
) -> None:
    collected.work["metrics"] = ["psnr", "ms_ssim", "vmaf"]
    collected.go(Step.COLLECT)
    collected.work["gate"] = {"largest_regressions": {"ms_ssim": 0.1}, "minimums": {"vmaf": 90}}
    with pytest.raises(InputError) as refused:
        collected.go(Step.COLLECT)
    assert refused.value.reason is Reason.METRIC_UNAVAILABLE
    assert refused.value.message == (
        "gate.regressions names ms_ssim, which needs 161 pixels at the shorter side: clip0.mp4 is "
        "compared at 64x48, 9 frames and 16 fps"
    )
    del collected.work["gate"]["largest_regressions"]
    collected.go(Step.COLLECT)


def test_weights_of_metrics_are_brought_and_what_is_missing_is_said_before_a_gpu_works(
    collected: Evaluation, processes: Measurers, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected.work["metrics"] = ["psnr", "lpips"]
    collected.put("close/clip0.mp4", noisy(0, 4))
    collected.go(Step.GENERATE, candidate="close")
    first, *_ = scores(collected)
    assert first.missing["lpips"].startswith("NotMounted: the weights of LPIPS and AlexNet are not")
    collected.work["decision"] = {"metric": "lpips"}
    with pytest.raises(InputError, match=r"decision.metric names lpips, .* name their folder"):
        collected.go(Step.COLLECT)
    folder = f"{collected.name}/weights"
    collected.work["metric_weights"] = f"s3://{collected.store.bucket}/{folder}"
    collected.store.put_bytes(f"{folder}/lpips/alex.pth", b"heads")
    with pytest.raises(InputError, match=r"has no lpips/alexnet-owt-7be5be79\.pth") as missing:
        collected.go(Step.COLLECT)
    assert missing.value.reason is Reason.MODEL_NOT_FOUND
    with pytest.raises(InputError, match=r"alexnet-owt-7be5be79\.pth does not exist"):
        scores(collected)
    collected.store.put_bytes(f"{folder}/lpips/alexnet-owt-7be5be79.pth", b"network")
    collected.go(Step.COLLECT)
    asked: list[Order] = []

    def measured(order: Order) -> ClipScores:
        asked.append(order)
        found = {name: Score(value=0.5) for name in order.metrics}
        return ClipScores(scores=found, frames_compared=FRAMES - 1)

    monkeypatch.setattr(processes, "scored", measured)
    scores(collected)
    (order,) = asked
    assert order.metrics == ["lpips"], "psnr is known"
    where = order.mounted.folder("lpips")
    assert where is not None
    assert (where / "alex.pth").read_bytes() == b"heads"
    scores(collected)
    assert len(asked) == 1
    collected.store.put_bytes(f"{folder}/lpips/alex.pth", b"other heads")
    scores(collected)
    assert len(asked) == 2, "another network gives another number"
