"""What the table of a bench shows of its rows' figures."""

from __future__ import annotations

from typing import Any


def of_steps(content: Any) -> list[str]:
    return [
        f"{row['row']}: {row['error'] or seconds(row)}{gib(row.get('peakAllocatedGiB'))}"
        for row in content["rows"]
    ]


def of_turns(content: Any) -> list[str]:
    shape = f"{content['preset']}, {content['frames']} frames"
    found = [
        f"{shape}, {code}: {seconds(row)}{gib(row.get('allocatedGiB'))}, {row['over']} of the first"
        + (f", equal steps differ by {row['differsBy']:.2g}" if "differsBy" in row else "")
        for code, row in content["rows"].items()
    ]
    if "joint" in content:
        both = content["joint"]["first"]
        found.append(
            f"{shape}, both experts: {both['seconds']:.4g} s a step{gib(both.get('allocatedGiB'))}"
        )
    return found


def of_float8(content: Any) -> list[str]:
    return [
        f"{row['frames']} frames{', held to 48 GB' if row['capped'] else ''}: "
        + (row.get("error") or f"{row['seconds'][-1]:.4g} s a step{gib(row.get('allocatedGiB'))}")
        for row in content["rows"]
    ]


def of_repeatable(content: Any) -> list[str]:
    return [
        f"{mode}: {row['overDefault']} of the default step, equal steps differ by "
        f"{row['stepsDifferBy']:.2g}"
        for mode, row in content.items()
        if isinstance(row, dict)
    ]


def of_ranks(content: Any) -> list[str]:
    return [
        f"{row['row']}: {seconds(row)}{gib(row.get('allocatedGiB'))}" for row in content["rows"]
    ]


def of_encode(content: Any) -> list[str]:
    return [
        f"{row['encoder']}: {row['clipsPerSecond']} clips a second"
        for row in content["rows"]
        if "clipsPerSecond" in row
    ]


def of_start(content: Any) -> list[str]:
    return [f"compiled kernels {row['folder']}: {row['toFirstStep']} s" for row in content]


def of_full(content: Any) -> list[str]:
    found = [f"learns: {content['learns']['learns']}", f"restores: {content['restores']['equal']}"]
    costs = content.get("costs")
    if costs is not None:
        found.append(f"{costs['layers']} blocks: {seconds(costs)}{gib(costs['peakGiB'])}")
    return found


def of_zero(content: Any) -> list[str]:
    before, after = content["probes"]
    return [
        f"{content['ranks']} GPUs, {content['sequence']} for each clip, {content['frames']} "
        f"frames, ZeRO {content['stage']}, offload {content['offload']}: "
        f"{content['last']['seconds']:.4g} s a step{gib(content.get('allocatedGiB'))}, "
        f"loss of probes {before:.3f} -> {after:.3f}"
    ]


def of_gradients(content: Any) -> list[str]:
    worst = {
        (row["model"], code): max(each[code] for each in content if each["model"] == row["model"])
        for row in content
        for code in ("ours", "kept", "diffsynth")
    }
    return [f"{model}, {code}: error {error:.2g}" for (model, code), error in worst.items()]


def of_repeats(content: Any) -> list[str]:
    return [
        f"{row['shape']}, deterministic {row['deterministic']}: {seconds(row)}, "
        f"two runs differ by {row['twoRunsDifferBy']:.2g}, resumed {row['resumedDiffersBy']:.2g}"
        for row in content
    ]


def of_forward(content: Any) -> list[str]:
    passes = [
        f"{row['name']}: {row['seconds']} s{gib(row['peakGiB'])}" for row in content["passes"]
    ]
    return passes + [f"{name}: error {error:.3g}" for name, error in content["errors"].items()]


def of_step(content: Any) -> list[str]:
    return [
        f"{row['profile']}, guidance {row['guidance']}, {row['ranks']} GPUs, {row['layout']}: "
        f"{row['seconds']} s"
        f"{gib(row['peakGiB'])}" + ("" if row["alike"] else ", FAIL: ranks differ")
        for row in content
    ]


def of_usp(content: Any) -> list[str]:
    return [
        f"diffsynth's USP, {row['ranks']} GPUs: "
        + (row.get("error") or f"{row['seconds']} s{gib(row['peakGiB'])}")
        for row in content
    ]


def of_decode(content: Any) -> list[str]:
    return [
        f"{row['dtype']}, {row['ranks']} GPUs"
        + f": {row['seconds']} s{gib(row['peakGiB'])}, {row['errorMost']:.2f} levels from float32"
        + (f", off by {row['off']} levels" if "off" in row else "")
        for row in content
    ]


def of_photo(content: Any) -> list[str]:
    return [
        f"{row['ranks']} GPUs: {row['seconds']} s{gib(row['peakGiB'])}, "
        + (f"{row['fromOne']} from one" if "fromOne" in row else f"{row['error']} from float32")
        for row in content
    ]


def of_profile(content: Any) -> list[str]:
    return [
        f"{row['rows'] if 'rows' in row else 'rank {}'.format(row['rank'])}: {row['wall']} ms, "
        f"of which idle {row['idle']}, "
        + ", ".join(f"{group} {took}" for group, took in row["groups"].items())
        for row in content
        if "wall" in row
    ]


def of_stream(content: Any) -> list[str]:
    return [
        f"{row['size']}: {row['streamed']['seconds']} s{gib(row['streamed']['peakGiB'])}, resident "
        f"{row['resident']['seconds']} s{gib(row['resident']['peakGiB'])}"
        + ("" if row["equal"] else ", FAIL: other bits")
        for row in content
        if "size" in row
    ]


def of_quality(content: Any) -> list[str]:
    return [
        f"{row['model']}, {row['variant']}: {row['psnr']} dB, SSIM {row['ssim']}, "
        f"GMSD {row['gmsd']} of Lossless"
        for row in content
    ]


def of_clip(content: Any) -> list[str]:
    return [
        f"{row['profile']}: {row['stepSeconds']} s a step, decoding {row['seconds']['decoding']} s"
        f"{gib(row['peakGiB'])}"
        for row in content
        if "profile" in row
    ]


def of_serving(content: Any) -> list[str]:
    stages = ", ".join(f"{stage} {took:.1f}" for stage, took in content["first"]["stages"].items())
    return [
        f"ready after {content['secondsToReady']} s{gib(content.get('gpuPeakGiB'))}",
        f"{content['steps']} steps, {content['size']}: {content['first']['seconds']} s ({stages})",
        f"another LoRA loads in {content['newLora']['stages']['loading']:.2f} s",
        f"cancelled in {content['cancelSeconds']} s",
        *(
            [f"a rank killed meanwhile: {content['rankKilled']['seconds']} s, the same bytes"]
            if "rankKilled" in content
            else []
        ),
    ]


def of_clips(content: Any) -> list[str]:
    return [
        f"{row['clip']}, GPUs: {row['ranks']}: {row['seconds']} s ("
        + ", ".join(f"{stage} {took:.1f}" for stage, took in row["stages"].items())
        + f"), ready after {row['start']['secondsToReady']} s"
        for row in content
    ]


def of_checks(content: Any) -> list[str]:
    failed = [check["check"] for check in content["checks"] if not check["passed"]]
    return [
        f"{len(content['checks']) - len(failed)} checks pass",
        *(f"FAIL {one}" for one in failed),
    ]


def of_adapters(content: Any) -> list[str]:
    return [
        f"{row['preset']}: error {row['error']:.3g}, merged {row['error of merged weights']:.3g}"
        + ("" if row["ok"] else ", FAIL")
        for row in content
    ]


def seconds(row: Any) -> str:
    return f"{row['secondsPerStep']:.4g} s a step"


def gib(value: float | None) -> str:
    return "" if value is None else f", {value:.1f} GiB"
