"""From what the steps left to the verdict and the report."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluations import Evaluation
from moving import moving_picture
from screen import Screen
from wan_runtime.artifacts import manifest
from wan_runtime.contract.job import RESULT_LIMIT, ExitClass, ManifestRef, Result
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.contract.verdict import GateVerdict, Standing, Verdict
from wan_runtime.evaluation.compare import decided
from wan_runtime.evaluation.records import (
    RATINGS,
    REPORT,
    SCORES,
    Measured,
    Rating,
    Ratings,
    Scores,
    Stored,
    Video,
    Videos,
)
from wan_runtime.evaluation.standings import small
from wan_runtime.process import step as process_step
from wan_runtime.process.progress import Reporter

pytest_plugins = ["evaluation_fixtures", "screen_fixtures"]

COUNT = 8


@pytest.fixture
def two(evaluation: Evaluation) -> Evaluation:
    """Two candidates, of which `good` is better by far; the last video of `poor` failed."""
    evaluation.upload_few(COUNT)
    evaluation.go(Step.COLLECT)
    evaluation.add("good", preset="Wan2.1-I2V-Tiny")
    evaluation.add("poor", preset="Wan2.1-I2V-Tiny", training={"gpuSeconds": 7200})
    evaluation.work |= {"noise_floor": "good", "price_per_gpu_hour": 3}
    measured = []
    for name, level in (("good", 40.0), ("poor", 25.0)):
        videos = []
        for index, clip in enumerate(evaluation.clips()):
            failed = name == "poor" and index == COUNT - 1
            psnr = level + index % 3
            video = evaluation.put(f"{name}/{clip.id}.mp4", moving_picture(index))
            key = evaluation.store.parse(video)[1]
            info = evaluation.store.stat(key)
            assert info is not None
            stored = Stored(uri=video, sha256=str(info.sha256), bytes=info.bytes)
            about = {"clip": clip.id, "candidate": name}
            if failed:
                videos.append(Video(**about, failure="NaN pixels"))
                measured.append(Measured(**about, failure="NaN pixels"))
                continue
            seconds = 36.0 if index else 400.0
            made = Video(**about, video=stored, gpu_seconds=seconds, gpu="H200")
            exact = {"render": "OtherKernels", "gpu_seconds": 99.0}
            videos += [made, made.model_copy(update=exact), made.model_copy(update=exact)]
            measured.append(Measured(**about, values={"psnr": psnr, "ssim": psnr / 50}))
            if name == "good":
                other = {"psnr": psnr + 0.2 * (-1) ** index, "ssim": psnr / 50}
                measured.append(Measured(**about, render="OtherSeed", values=other))
                other = {"psnr": psnr + 0.1, "ssim": psnr / 50}
                measured.append(Measured(**about, render="OtherKernels", values=other))
        done = Videos(candidate=name, videos=tuple(videos))
        evaluation.put_document(f"generate-{name}", "videos.json", done)
    evaluation.put_document("score", SCORES, Scores(measured=tuple(measured)))
    return evaluation


def verdict_of(evaluation: Evaluation) -> Verdict:
    found = evaluation.go(Step.COMPARE).verdict
    assert found is not None
    return found


def decided_of(evaluation: Evaluation) -> Verdict:
    """The verdict without a report, which takes longer."""
    return decided(evaluation.job(Step.COMPARE), evaluation.store).verdict


def report_of(evaluation: Evaluation, folder: Path) -> str:
    manifest.fetch(evaluation.store, evaluation.inputs["compare"], folder)
    return (folder / REPORT).read_text()


def test_the_better_candidate_wins_with_the_numbers(two: Evaluation, tmp_path: Path) -> None:
    two.work["gate"] = {"candidate": "good", "baseline": "poor", "minimums": {"psnr": 30}}
    verdict = verdict_of(two)
    assert (verdict.decision, verdict.winner, verdict.metric) == ("Winner", "good", "total")
    assert verdict.cheapest_good == "good"
    first, second = verdict.standings
    assert (first.name, first.clips, first.failed) == ("good", COUNT, 0)
    assert (second.name, second.clips, second.failed) == ("poor", COUNT - 1, 1)
    assert first.total == first.quality == pytest.approx(0.5 * 40.875 / 50 + 0.5 * 40.875 / 50)
    assert first.low is not None
    assert first.high is not None
    assert first.low <= first.quality <= first.high
    assert first.seconds == 36, "without what the first video of a pod takes longer"
    assert first.cost == pytest.approx(0.03)
    assert verdict.message.startswith("good is better by total over 8 clips: than poor by 0.")
    assert "noise floors" in verdict.message
    assert verdict.gate is not None
    assert verdict.gate.passed
    costs = {each.candidate: each.cost for each in two.result().decision.costs.candidates}
    assert costs == {"good": pytest.approx(30), "poor": pytest.approx(36)}

    page = report_of(two, tmp_path / "report")
    assert "good wins" in page
    assert "twice the floor of other kernels (0.001) and of other seeds (0.0007559)" in page
    assert page.count('class="noise"') == 4, "both sides of zero"
    assert page.count("failed: NaN pixels") == 2, "in the table, and in place of the player"
    assert "simulated" not in page
    assert page.count("<video") == 3 * COUNT - 1
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == [], "it loads nothing"


def test_a_repeated_step_has_the_verdict_again(two: Evaluation, tmp_path: Path) -> None:
    two.spec = two.spec.model_copy(update={"prefix": two.name})
    job = two.job(Step.COMPARE)
    first, again = (process_step.perform(job, tmp_path, Reporter("compare")) for _ in range(2))
    assert again.message == "already committed"
    assert again.verdict is not None
    assert again.verdict == first.verdict
    assert Result.model_validate_json(again.dump()) == again


def test_a_verdict_about_many_candidates_has_room_in_a_result() -> None:
    figures = dict.fromkeys(("quality", "low", "high", "opinion", "total"), -0.1234)
    standings = tuple(
        Standing(name=f"candidate-numb{n}", clips=1000, failed=1000, seconds=1234.5, cost=0.01234,
                 **figures)
        for n in range(10, 26)
    )  # fmt: skip
    verdict = Verdict(
        decision="Inconclusive",
        metric="first_frame_fidelity",
        message="m" * 400,
        standings=standings,
        gate=GateVerdict(candidate="candidate-numb25", passed=None, message="g" * 400),
    )
    found = small(verdict)
    result = Result(
        step_id="compare",
        exit_class=ExitClass.DONE,
        reason=Reason.COMPLETED,
        message=verdict.message,
        verdict=found,
        manifest=ManifestRef(uri=f"s3://{'b' * 60}/{'p' * 200}/manifest.json", sha256="a" * 64),
        summary={"decision": "Inconclusive", "candidates": 16, "clips": 1000},
    )
    assert len(result.dump()) <= RESULT_LIMIT
    assert found.standings[:4] == standings[:4]
    assert [each.quality for each in found.standings] == [-0.1234] * 16
    few = verdict.model_copy(update={"standings": standings[:4]})
    assert small(few) == few


def test_a_candidate_whose_step_failed_counts_as_failed(two: Evaluation) -> None:
    two.add("gone", preset="Wan2.1-I2V-Tiny")
    verdict = verdict_of(two)
    gone = verdict.standings[-1]
    assert (gone.name, gone.clips, gone.failed, gone.quality) == ("gone", 0, COUNT, None)


def test_a_metric_that_says_nothing_of_a_clip_leaves_it_out_for_all(
    two: Evaluation, tmp_path: Path
) -> None:
    """Others, and a candidate that failed on it, are counted as before."""
    two.work["metrics"] = ["psnr", "ssim", "motion_ratio", "lpips"]
    clips = [each.id for each in two.clips()]
    none = {"lpips": "NotMounted: weights are not mounted"}
    still = {"motion_ratio": "StillReference: the recorded clip stands still", **none}
    measured = tuple(
        Measured(clip=clip, candidate=name, values={"psnr": 30, "ssim": 0.8}, missing=still)
        if clip == clips[0]
        else Measured(clip=clip, candidate=name, failure="NaN pixels")
        if (name, clip) == ("poor", clips[1])
        else Measured(
            clip=clip,
            candidate=name,
            values={"psnr": 30, "ssim": 0.8, "motion_ratio": 0.5},
            missing=none,
        )
        for name in ("good", "poor")
        for clip in clips
    )
    two.put_document("score", SCORES, Scores(measured=measured))
    two.go(Step.COMPARE)
    assert "not measured: NotMounted: weights" in report_of(two, tmp_path / "report")
    good, poor = (
        next(m for m in each.metrics if m.metric == "motion_ratio")
        for each in two.result().decision.candidates
    )
    assert good.estimate is not None
    assert poor.estimate is not None
    assert (good.estimate.value, good.estimate.clips, good.failed) == (0.5, COUNT - 1, 0)
    assert poor.failed == 1
    assert poor.estimate.value == pytest.approx(0.5 * (COUNT - 2) / (COUNT - 1))


def test_people_decide_if_they_rate(two: Evaluation, tmp_path: Path) -> None:
    two.work["ratings"] = {"raters": ["ann", "ben"], "simulated": True}
    assert verdict_of(two).decision == "Inconclusive", "nobody has rated"
    now, levels = datetime.now(UTC), {"good": 2, "poor": 4}
    ratings = tuple(
        Rating(
            rater=rater,
            clip=clip.id,
            candidate=name,
            scores=dict.fromkeys(
                ("dynamics", "camera_control", "frame_quality", "accuracy"),
                level + (index + bias) % 2,
            ),
            time=now,
        )
        for index, clip in enumerate(two.clips()[:-1])
        for bias, rater in enumerate(("ann", "ben"))
        for name, level in levels.items()
    )
    rated = Ratings(ratings=ratings, raters=("ann", "ben"), complete=False, simulated=True)
    two.put_document("rate", RATINGS, rated)
    two.work["decision"] = {"minimum_clips": 7}
    verdict = verdict_of(two)
    assert verdict.metric == "subjective"
    assert verdict.message.startswith("simulated ratings; ")
    opinions = {each.name: each.opinion for each in verdict.standings}
    assert opinions["good"] == pytest.approx(2.5)
    assert verdict.standings[0].total is not None
    page = report_of(two, tmp_path / "report")
    assert "The ratings are simulated" in page
    assert "Krippendorff" in page
    assert "The deadline came before all had rated all." in page


def fours(evaluation: Evaluation, clips: int) -> tuple[Rating, ...]:
    """Marks of 4 by two people for both candidates on the first clips."""
    dimensions = ("dynamics", "camera_control", "frame_quality", "accuracy")
    return tuple(
        Rating(
            rater=rater,
            clip=clip.id,
            candidate=name,
            scores=dict.fromkeys(dimensions, 4),
            time=datetime.now(UTC),
        )
        for clip in evaluation.clips()[:clips]
        for rater in ("ann", "ben")
        for name in ("good", "poor")
    )


def test_failures_count_in_the_opinion_only_where_people_were_to_rate(two: Evaluation) -> None:
    """`poor` failed on the last clip."""
    rated = Ratings(ratings=fours(two, 4), raters=("ann", "ben"), complete=True)
    two.put_document("rate", RATINGS, rated)
    opinions = []
    for asked in (4, COUNT):
        two.work["ratings"] = {"raters": ["ann", "ben"], "clips": asked}
        found = {each.name: each.opinion for each in decided_of(two).standings}
        opinions.append((found["good"], found["poor"]))
    assert opinions == [(4, 4), (4, pytest.approx((4 * 4 + 1) / 5))]


@pytest.mark.parametrize(("metric", "passed"), [("psnr", True), ("total", None)])
def test_simulated_ratings_pass_no_gate(two: Evaluation, metric: str, passed: bool | None) -> None:
    two.work["ratings"] = {"raters": ["ann", "ben"], "simulated": True}
    two.work["gate"] = {"candidate": "good", "minimums": {metric: 0.5}}
    rated = Ratings(ratings=fours(two, COUNT), raters=("ann", "ben"), complete=True)
    for simulated, wanted in ((False, True), (True, passed)):
        made = rated.model_copy(update={"simulated": simulated})
        two.put_document("rate", RATINGS, made)
        gate = decided_of(two).gate
        assert gate is not None
        assert gate.passed is wanted


def test_a_gate_without_a_winner_stays_closed_whoever_leads_the_total(two: Evaluation) -> None:
    two.work["metrics"] = ["psnr", "ssim", "flicker"]
    two.work["decision"] = {"metric": "flicker"}
    two.work["gate"] = {"minimums": {"psnr": 10}}
    scores = tuple(
        Measured(clip=clip.id, candidate=name, values={"psnr": psnr, "ssim": 0.8, "flicker": 1})
        for clip in two.clips()
        for name, psnr in (("good", 40), ("poor", 25))
    )
    two.put_document("score", SCORES, Scores(measured=scores))
    verdict = decided_of(two)
    assert (verdict.decision, verdict.winner) == ("Tie", None)
    assert verdict.gate is not None
    assert (verdict.gate.candidate, verdict.gate.passed) == (None, None)
    assert verdict.gate.message.startswith("there is no winner")


def test_texts_never_become_markup(two: Evaluation, tmp_path: Path) -> None:
    clips = two.clips()
    odd = "<script>alert(1)</script>"
    scores = Scores(measured=(Measured(clip=clips[0].id, candidate="good", failure=odd),))
    two.put_document("score", SCORES, scores)
    two.go(Step.COMPARE)
    page = report_of(two, tmp_path / "report")
    assert odd not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1


def test_the_report_works_in_a_browser_without_a_network(
    two: Evaluation, screen: Screen, tmp_path: Path
) -> None:
    two.go(Step.COMPARE)
    report_of(two, tmp_path / "report")
    page = screen.page
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url))
    address = (tmp_path / "report" / REPORT).as_uri()
    page.goto(address)
    column = page.get_by_role("button", name="psnr", exact=True)
    column.click()
    column.click()
    row = page.locator("table[data-sortable] tbody tr")
    assert "42.2" in row.first.inner_text(), "the best comes first"
    assert "failed" in row.last.inner_text(), "what has no value comes last, whichever way"
    clip = page.locator("#clip-0001")
    clip.get_by_role("button", name="Play all together").click()
    clip.get_by_role("button", name="Pause all").wait_for()
    playing = "[...document.querySelectorAll('#clip-0001 video')].every((each) => !each.paused)"
    page.wait_for_function(playing)
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") == 360, (
        "tables scroll by themselves"
    )
    assert [each for each in said if not each.startswith("data:")] == [address]
