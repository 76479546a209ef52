"""`kubectl wan plan`: what it prints, and what it says to bad input."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from wan_operator.kubectl.__main__ import main
from wan_runtime.planner.gpus import DEFAULTS

pytest_plugins = ["plan_fixtures"]
Plan = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "finetune-wan21-720p-lora.yaml"
SHOWN = re.compile(r"^\$ kubectl wan (plan .*)\n((?:(?!```|\$ ).*\n)*)", re.MULTILINE)


def document(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "wan-operator.dev/v1alpha1",
        "kind": "WanFineTune",
        "metadata": {"name": "mine"},
        "spec": {
            "model": {
                "preset": "Wan2.1-I2V-14B-720P",
                "source": {"persistentVolumeClaim": {"claimName": "models"}},
            },
            "dataset": {"source": "s3://data/clips"},
            **spec,
            "training": {"gradientCheckpointing": "Full", **spec.get("training", {})},
        },
    }


def on_h100(**spec: Any) -> dict[str, Any]:
    selector = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    return document(podTemplate={"nodeSelector": selector}, **spec)


def test_documented_output_is_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    pages = ("README.md", "docs/planner.md", "docs/quickstart.md", "docs/multi-gpu.md")
    blocks = [block for page in pages for block in SHOWN.findall((ROOT / page).read_text())]
    assert len(blocks) >= 5
    for command, output in blocks:
        main(shlex.split(command))
        printed = capsys.readouterr().out
        parts = map(re.escape, output.split("...\n"))
        assert re.fullmatch("(?:.*\n)+".join(parts), printed), (command, printed)


def test_a_run_that_fits_and_one_that_does_not(plan: Plan) -> None:
    small, large = on_h100(training={"steps": 100}), on_h100()
    small["spec"]["dataset"]["frames"] = 49
    status, out, _ = plan(of=small)
    assert status == 0
    assert re.search(r"^fits +yes$", out, re.MULTILINE)
    assert re.search(r"^run +100 steps: 1\.[0-9] h", out, re.MULTILINE)
    status, out, _ = plan(of=[small, large])
    assert status == 1
    assert re.search(r"^fits +no: the operator refuses it$", out, re.MULTILINE)
    assert re.search(
        r"^fits with +gradientCheckpointing: Offload, or basePrecision: FP8, or "
        r"parallelism\.gpusPerNode: 2, or 65 frames, or 832x480, or a GPU of type",
        out,
        re.MULTILINE,
    )
    assert "unknown: say how many clips with --clips" in out


def test_what_auto_would_choose_counts_in_what_helps(plan: Plan) -> None:
    """For fewer frames, and on another GPU, it is another policy than for the run as it is."""

    def auto(frames: int) -> dict[str, Any]:
        made = document(training={"gradientCheckpointing": "Auto"})
        made["spec"]["dataset"]["frames"] = frames
        return made

    _, out, _ = plan("--gpu", "H100-80GB", of=auto(241))
    found = re.search(r"^fits with .* or (\d+) frames", out, re.MULTILINE)
    assert found is not None
    assert plan("--gpu", "H100-80GB", of=auto(int(found[1])))[0] == 0
    assert plan("--gpu", "H100-80GB", of=auto(int(found[1]) + 4))[0] == 1, "the most"
    _, out, _ = plan("--gpu", "RTX-4090-24GB", of=auto(81))
    assert re.search(r"^fits with .*a GPU of type H100-80GB$", out, re.MULTILINE)
    short = auto(81)
    short["spec"]["resources"] = {"memory": "16Gi"}
    _, out, _ = plan("--gpu", "H100-80GB", of=short)
    assert re.search(
        r"^fits with +resources\.memory: 9\dGi, or no resources\.memory, or ", out, re.M
    )
    assert "Offload" not in out, "there is no room for it"
    _, out, _ = plan(of=auto(81))
    assert out.splitlines()[0].endswith("gradientCheckpointing Auto"), "each type its own"


def test_pods_that_may_have_too_little_host_memory_do_not_fit(plan: Plan) -> None:
    short = on_h100(resources={"memory": "48Gi"}, training={"gradientCheckpointing": "Offload"})
    status, out, _ = plan(of=short)
    assert status == 1
    assert re.search(r"^fits +no: the operator refuses it$", out, re.MULTILINE)
    assert re.search(
        r"^host memory +training keeps at least 58 GiB in .* is 48Gi$", out, re.MULTILINE
    )
    assert re.search(r"^fits with +resources\.memory: 96Gi, or no resources\.memory$", out, re.M)
    status, out, _ = plan("-o", "json", of=short)
    assert json.loads(out)[0]["fits"] == "no"


def test_the_gpu_asked_for_wins_over_the_selector(plan: Plan) -> None:
    status, out, _ = plan("--gpu", "H200-141GB", of=on_h100())
    assert status == 0
    assert re.search(r"^GPU +H200-141GB", out, re.MULTILINE)
    status, _, error = plan("--gpu", "H1000", of=on_h100())
    assert status == 2
    assert '--gpu "H1000" is not in the catalogue: it has A100-40GB' in error


@pytest.mark.parametrize("arguments", [(), ("--compare",)])
def test_without_a_known_gpu_all_are_compared(plan: Plan, arguments: tuple[str, ...]) -> None:
    """What fits comes first, and of that the cheapest."""
    status, out, _ = plan(*arguments, "--clips", "90", "-o", "json", of=document())
    assert status == 0
    assert {row["gpu"] for row in json.loads(out)} == {gpu.name for gpu in DEFAULTS}
    _, table, _ = plan(*arguments, "--clips", "90", of=document())
    lines = [line.split() for line in table.splitlines()[2:]]
    fitting = [line for line in lines if line[3] in ("yes", "barely")]
    assert lines[: len(fitting)] == fitting
    assert {line[0] for line in fitting} == {
        "H100-NVL-94GB", "RTX-PRO-6000-96GB", "H200-141GB", "H200-NVL-141GB", "B200-180GB",
    }  # fmt: skip
    costs = [int(line[6]) for line in fitting]
    assert costs == sorted(costs)


def test_a_product_that_the_catalogue_lacks_is_told(plan: Plan) -> None:
    misspelt = document(podTemplate={"nodeSelector": {"nvidia.com/gpu.product": "H100"}})
    status, out, error = plan(of=misspelt)
    assert status == 0
    assert len(out.splitlines()) == 2 + len(DEFAULTS)
    assert 'WanFineTune mine: nvidia.com/gpu.product "H100" is not in the catalogue' in error
    assert plan("--gpu", "H100-80GB", of=misspelt)[2] == ""


def test_json_has_the_terms(plan: Plan) -> None:
    status, out, _ = plan("--clips", "90", "-o", "json", of=on_h100())
    [one] = json.loads(out)
    assert status == 1
    assert one["fits"] == "no"
    assert one["steps"] == 1800
    assert sum(one["gpuGibTerms"].values()) == pytest.approx(one["gpuGib"], abs=0.1)
    assert sum(one["secondsTerms"].values()) == pytest.approx(one["secondsPerStep"], abs=0.1)
    assert one["gpuGibRange"][0] < one["gpuGib"] < one["gpuGibRange"][1]


def test_every_bucket_is_shown_and_the_largest_is_planned(plan: Plan) -> None:
    sizes = [(832, 480, 33), (480, 832, 81), (832, 480, 81)]
    buckets = [dict(zip(("width", "height", "frames"), size, strict=True)) for size in sizes]
    mixed = on_h100(dataset={"source": "s3://data/clips", "buckets": buckets})
    one = on_h100(dataset={"source": "s3://data/clips", **buckets[2]})
    status, out, _ = plan("--clips", "90", of=mixed)
    assert status == 0
    assert "81 frames of 832x480 (32,760 tokens, the largest of 3 buckets)" in out
    row = r"^  (\d+x\d+x\d+) +([\d,]+) tokens, [\d.]+ GiB, [\d.]+ s a step$"
    assert re.findall(row, out, re.MULTILINE) == [
        ("832x480x81", "32,760"), ("480x832x81", "32,760"), ("832x480x33", "14,040"),
    ]  # fmt: skip
    _, out, _ = plan("--clips", "90", "-o", "json", of=[mixed, one])
    first, second = json.loads(out)
    assert len(first.pop("buckets")) == 3
    assert len(second.pop("buckets")) == 1
    assert first == second, "as if all clips were of the largest"


def test_both_experts_take_twice_as_long(plan: Plan) -> None:
    one, both = on_h100(experts=["LowNoise"]), on_h100()
    for each in (one, both):
        each["spec"]["model"]["preset"] = "Wan2.2-I2V-A14B"
        each["spec"] |= {"training": {"steps": 100}, "validation": {"samples": 0}}
    _, out, _ = plan("-o", "json", of=[one, both])
    first, second = json.loads(out)
    assert second["hours"] == pytest.approx(2 * first["hours"], abs=0.02)


def test_one_run_of_both_experts_counts_the_steps_of_both(plan: Plan) -> None:
    run = document(parallelism={"experts": "Joint"}, training={"steps": 1000})
    run["spec"]["model"]["preset"] = "Wan2.2-I2V-A14B"
    _, text, _ = plan("--gpu", "H200-141GB", of=run)
    assert "LoRA of rank 32, both experts in one Job, 81 frames" in text
    assert re.search(r"^run +1,000 steps: ", text, re.MULTILINE)
    _, text, _ = plan("--gpu", "H200-141GB", "-o", "json", of=run)
    [row] = json.loads(text)
    assert (row["experts"], row["steps"]) == (2, 1000)


def test_tiny_presets_fit_everywhere(plan: Plan) -> None:
    tiny = document(model={"preset": "Wan2.2-I2V-Tiny"})
    status, out, _ = plan(of=tiny)
    assert (status, out) == (
        0,
        "WanFineTune mine: Wan2.2-I2V-Tiny fits everywhere and is not planned\n",
    )
    status, out, _ = plan("--compare", "-o", "json", of=tiny)
    assert json.loads(out)[0]["fits"] == "yes"


NOTHING = "no WanFineTune or WanInferenceService or WanEvaluation in standard input"
WRONG: list[tuple[Any, str]] = [
    ("a: [", "standard input is no YAML"),
    ("a: 1\nb: {c: 2\n", "standard input is no YAML at line 3, column 1: "),
    ("spec:\n\tx: 1", "standard input is no YAML at line 2, column 1: "),
    ("spec: {a: 1}\nspec: {a: 2}", "is no YAML at line 2, column 1: spec stands twice"),
    ("spec: {{ .Values.spec }}", "it looks like a template: give what `helm template` makes of it"),
    ("[" * 3000, "standard input is nested too deeply to be read"),
    ("a: &a [*a]", "standard input is nested too deeply to be read"),
    (
        "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{b}: &{b} [{','.join(9 * ['*' + a])}]\n" for a, b in itertools.pairwise("abcdefg")
        ),
        "standard input holds more than 200000 values: too much to read",
    ),
    ("# " + "x" * 2**22, "standard input is larger than 4 MiB"),
    ("- 1", "standard input, document 1: must be an object"),
    ("{kind: List, items: 5}", "standard input, document 1: must be an object"),
    ("{kind: List, items: [1]}", "standard input, document 1: must be an object"),
    ("{kind: List, items: }", NOTHING),
    ("", NOTHING),
    (
        {"kind": "ConfigMap", "apiVersion": "v1"},
        NOTHING,
    ),
    (
        document() | {"apiVersion": "wan-operator.dev/v1"},
        "apiVersion: must be wan-operator.dev/v1al",
    ),
    (document() | {"spec": None}, "(WanFineTune mine): spec: is missing"),
    (
        document() | {"kind": "WanFinetune"},
        'kind: must be one of WanFineTune, WanInferenceService, WanEvaluation, not "WanFinetune"',
    ),
    (document(modell={}), 'unknown field "spec.modell"'),
    (document(**{"\u00a0model": {}}), r'unknown field "spec.\u00a0model"'),
    (document(dataset={"source": "s3://data/c", "frame": 5}), 'unknown field "spec.dataset.frame"'),
    (
        document(podTemplate={"tolerations": [{"keys": "a"}]}),
        'unknown field "spec.podTemplate.tolerations[0].keys"',
    ),
    (document(dataset={}), "spec.dataset.source: is missing"),
    (document(model={"preset": "Wan3"}), "spec.model.preset: must be Wan2.1-I2V-14B-720P, Wan"),
    (document(method={"lora": None}), "spec.method: set exactly one of lora and full; lora: {}"),
    (document(training={"batchSize": 0}), "spec.training.batchSize: must be at least 1, not 0"),
    (
        document(parallelism={"gpusPerNode": 4, "sequence": 8}),
        "(WanFineTune mine): spec.parallelism.sequence: sequence must divide gpusPerNode, 4: the",
    ),
    (
        document(parallelism={"gpusPerNode": 6, "sequence": 3}),
        "spec.parallelism.sequence: sequence must divide the model's attention heads, of which",
    ),
    (
        document(parallelism={"gpusPerNode": 2, "offload": "Optimizer"}),
        "spec.parallelism.offload: ZeRO is what offloads: set zeroStage to 2 or 3",
    ),
    (
        document(parallelism={"nodes": 2, "gpusPerNode": 8}),
        "spec.parallelism: 16 GPUs cannot share the clips of an optimizer step evenly, "
        "training.batchSize x gradientAccumulation = 1: set gradientAccumulation to a multiple",
    ),
    (on_h100(dataset={"source": "s3://data/c", "frames": 80}), "spec.dataset.frames: must be 4n+1"),
    (
        on_h100(dataset={"source": "s3://data/c", "width": 1000}),
        "spec.dataset.width: must be a multiple",
    ),
    (
        on_h100(
            dataset={
                "source": "s3://data/c",
                "buckets": [{"width": 832, "height": 480, "frames": 80}],
            }
        ),
        "spec.dataset.buckets[0].frames: must be 4n+1, the lengths that the VAE can hold: 77 or 81",
    ),
]


@pytest.mark.parametrize(("of", "message"), WRONG, ids=[message for _, message in WRONG])
def test_bad_input_is_refused_with_file_and_field(plan: Plan, of: Any, message: str) -> None:
    status, out, error = plan(of=of)
    assert (status, out) == (2, "")
    assert message in error
    assert error.startswith("kubectl wan: ")


def test_clips_too_few_for_the_warm_up_are_told(plan: Plan) -> None:
    """As the operator does once it has counted them; of a Tiny preset, too."""
    short = {"epochs": 1, "datasetRepeat": 1, "schedule": {"warmupSteps": 30}}
    for made in (document(training=short), document(model={"preset": "Wan2.2-I2V-Tiny"})):
        made["spec"]["training"] |= short
        assert plan("--clips", "30", of=made)[0] == 0
        status, out, error = plan("--clips", "29", of=made)
        assert (status, out) == (2, "")
        assert "(29): the learning rate would never be reached. Set fewer" in error


def test_small_costs_have_cents(plan: Plan) -> None:
    cheap = on_h100(training={"steps": 10}, validation={"samples": 0})
    cheap["spec"]["dataset"]["frames"] = 5
    assert re.search(r"^run +10 steps: 0\.0 h .* costs 0\.0\d;", plan(of=cheap)[1], re.MULTILINE)


def test_a_file_that_is_not_there(plan: Plan) -> None:
    status, _, error = plan("-f", "/nonexistent.yaml", of=on_h100())
    assert status == 2
    assert "/nonexistent.yaml cannot be read" in error
    _, _, error = plan("-f", "https://example.com/mine.yaml", of=on_h100())
    assert error.endswith(
        "https://example.com/mine.yaml is an address: download it, and name the file\n"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is a folder: name the files in it"),
        (
            b"\xff\xff\xff",
            "is no YAML at line 1: it is no text in UTF-8 or UTF-16: save it as UTF-8",
        ),
        (b"PK\x03\x04\x00\x00", "is no YAML: it is a ZIP file"),
    ],
)
def test_files_that_are_no_yaml(
    plan: Plan, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.mkdir() if content is None else file.write_bytes(content)
    status, out, error = plan("-f", str(file), of=on_h100())
    assert (status, out) == (2, "")
    assert error == f"kubectl wan: {file} {message}\n"


def test_a_file_in_utf16_is_read(plan: Plan, tmp_path: Path) -> None:
    """PowerShell's `>` writes it."""
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(document()), encoding="utf-16")
    status, out, _ = plan("-f", str(file), "--gpu", "H200-141GB", "-o", "json", of="")
    assert status == 0
    assert len(json.loads(out)) == 1


def test_other_kinds_beside_it_are_passed_over_and_lists_are_read(plan: Plan) -> None:
    config = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "x"}}
    listed = {"kind": "List", "apiVersion": "v1", "items": [config, document()]}
    status, out, _ = plan("--gpu", "H200-141GB", "-o", "json", of=[config, listed, on_h100()])
    assert status == 0
    assert len(json.loads(out)) == 2


def test_every_example_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {
        "finetune": "WanFineTune",
        "inference": "WanInferenceService",
        "evaluation": "WanEvaluation",
    }
    files = sorted(each for kind in kinds for each in (ROOT / "examples").glob(f"{kind}-*.yaml"))
    assert EXAMPLE in files
    for file in files:
        assert main(["plan", "-f", str(file), "--clips", "90"]) == 0, file.name
        assert capsys.readouterr().out.startswith(kinds[file.name.partition("-")[0]])


def test_without_arguments_it_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "plan" in capsys.readouterr().out


def test_the_gpus_that_share_the_work_are_shown(plan: Plan) -> None:
    several = on_h100(
        parallelism={"nodes": 2, "gpusPerNode": 4, "sequence": 2},
        training={"steps": 100, "gradientAccumulation": 4},
    )
    _, out, _ = plan(of=several)
    assert "; 2 nodes with 4 GPUs each, 2 for each clip\n" in out
    assert re.search(r"^memory .* GiB \(.*\) of each GPU$", out, re.MULTILINE)
    assert re.search(r"^  exchange of tokens +[0-9.]+$", out, re.MULTILINE)
    _, out, _ = plan("-o", "json", of=several)
    [made] = json.loads(out)
    assert made["parallelism"]["sequence"] == 2
