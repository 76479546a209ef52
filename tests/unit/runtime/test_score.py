"""Every video beside its recorded clip, and the whole evaluation in four steps."""

from __future__ import annotations

import numpy as np
import pytest

from evaluations import Evaluation
from moving import FRAMES, moving_picture
from wan_runtime.artifacts import documents
from wan_runtime.artifacts.errors import ArtifactCorrupt
from wan_runtime.contract.steps import Step
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
    collected.go(Step.GENERATE, candidate="close")
    collected.put("close/clip-0004.mp4", noisy(4, 4))
    good, short, broken, changed, missing, *_ = scores(collected)
    assert good.failure == ""
    assert good.frames == FRAMES - 1
    assert 30 < good.values["psnr"] < 40
    assert short.failure == "it has 5 frames at 16 fps, and the clip 9"
    assert "does not decode" in broken.failure
    assert changed.failure.startswith("it was changed after it was found: ")
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
