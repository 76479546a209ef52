"""The judgement of a canary: by the videos that it has rendered since its rollout began."""

from __future__ import annotations

from wan_operator.api.v1alpha1.inference import Canary, RolloutStatus
from wan_operator.reconcile.service.state import Service
from wan_runtime.contract.report import TrackReport
from wan_runtime.contract.rollout import Track


def wanted(service: Service) -> Canary:
    """What the spec asks of a canary."""
    return service.spec.rollout.canary or Canary()


def seen(service: Service) -> TrackReport | None:
    """What the canary of this rollout has rendered. None: no gateway reports it now, or not yet:
    an earlier rollout of the same revision may be what the queue follows still."""
    report, rollout = service.report, service.status.rollout
    track = report.tracks.get(Track.CANARY) if report else None
    if report is None or track is None or rollout is None:
        return None
    begun, number = report.rollout.begun, report.rollout.number
    if begun is None and number:  # the time of a share of an earlier rollout is before this one's
        return track if number >= rollout.start_time.timestamp() else None
    return track if begun in (None, rollout.start_time) else None


def made(track: TrackReport | None) -> int:
    """Number of videos that count."""
    return track.completed + track.failed if track else 0


def awaited(service: Service) -> str | None:
    """What is still waited for. None: it has proved itself; what is bad was seen before."""
    least = wanted(service).min_videos
    if service.report is None:
        return f"{least} videos judge the canary; no gateway reports now"
    count = made(seen(service))
    if count >= least:
        return None
    return f"{count} of {least} videos that the canary is judged by were made since it began"


def too_few(service: Service, rollout: RolloutStatus) -> str:
    """What a canary has made; also if no gateway reports now."""
    count = rollout.progress.canary_videos if rollout.progress else 0
    return (
        f"the canary made {count} {'video' if count == 1 else 'videos'} since it began, and "
        f"spec.rollout.canary.minVideos wants {wanted(service).min_videos}: lower it, or raise "
        "canary.percent or rollout.deadlineSeconds"
    )


def worse(service: Service) -> str:
    """Why the canary goes back by what it has made, once that is enough to judge; empty if there
    is nothing."""
    limits, canary = wanted(service), seen(service)
    if canary is None or made(canary) < limits.min_videos:
        return ""
    failed = 100 * canary.failed / made(canary)
    if failed > limits.max_failed_percent:
        return (
            f"the canary failed {canary.failed} of {made(canary)} videos, {failed:.0f} percent: "
            f"more than {limits.max_failed_percent}"
        )
    stable = service.report.tracks.get(Track.STABLE) if service.report else None
    if stable is None or not stable.median_seconds or canary.median_seconds is None:
        return ""
    slower = 100 * (canary.median_seconds / stable.median_seconds - 1)
    if slower > limits.max_slower_percent:
        return (
            f"the canary takes {canary.median_seconds:.1f} s a video and the others "
            f"{stable.median_seconds:.1f}, {slower:.0f} percent more: more than "
            f"{limits.max_slower_percent}"
        )
    return ""
