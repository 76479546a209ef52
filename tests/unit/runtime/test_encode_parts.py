"""Several pods that encode a part of the clips each make what one would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ml_runs import CLIPS, Run
from wan_runtime.artifacts import manifest
from wan_runtime.artifacts.store import ArtifactCorrupt
from wan_runtime.contract.job import ManifestRef
from wan_runtime.contract.steps import Shard, Step
from wan_runtime.data import encode, latents
from wan_runtime.data.latents import Latents, load_latents

pytest_plugins = ["ml_fixtures"]


def listing(run: Run, ref: ManifestRef, folder: Path) -> Latents:
    return load_latents(run.store, ref, folder)


def encode_part(run: Run, index: int, count: int) -> str:
    """Encodes one part; returns its message."""
    return run.go(Step.ENCODE, shard={"index": index, "count": count}).message


def test_parts_make_the_list_that_one_step_makes(
    encoded21: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = listing(encoded21, encoded21.inputs["encode"], tmp_path / "whole")
    run = encoded21.fork("parts")
    del run.inputs["encode"]
    run.store.delete([clip.video.key for clip in whole.clips])  # all are encoded again
    messages = [encode_part(run, index, 3) for index in range(3)]
    assert [message.split(" objects")[0].rsplit(" ", 1)[1] for message in messages] == [
        "2", "1", "1",
    ]  # fmt: skip
    names = ("encode-part1", "encode-part2", "encode-part3")
    parts = [listing(run, run.inputs[name], tmp_path / name) for name in names]
    assert [len(part.clips) for part in parts] == [2, 1, 1]
    assert not {clip.path for clip in parts[0].clips} & {clip.path for clip in parts[1].clips}

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("gathering loads no model")

    monkeypatch.setattr(encode, "base_model", unexpected)
    outcome = run.go(Step.ENCODE)
    assert outcome.message == f"{CLIPS} clips in the latent cache, from 3 parts"
    assert listing(run, outcome.manifest, tmp_path / "gathered") == whole
    one, other = (manifest.load(run.store, ref).lineage for ref in
                  (encoded21.inputs["encode"], outcome.manifest))  # fmt: skip
    assert one.base_weights == other.base_weights
    assert set(other.inputs) == {"prepare", *names}


def test_gathering_needs_no_model_code() -> None:
    """Ten seconds of imports, on a node without a GPU."""
    script = "import sys, wan_runtime.data.cache; assert 'diffsynth' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_part_is_a_job_of_its_own(encoded21: Run) -> None:
    jobs = [encoded21.job(Step.ENCODE, shard={"index": n, "count": 2}) for n in range(2)]
    jobs.append(encoded21.job(Step.ENCODE))
    assert len({manifest.job_hash(job) for job in jobs}) == 3
    assert [job.step_id for job in jobs] == ["encode-part1", "encode-part2", "encode"]
    assert jobs[0].shard == Shard(index=0, count=2)


def test_more_parts_than_clips(encoded21: Run, tmp_path: Path) -> None:
    run = encoded21.fork("many")
    whole = listing(run, run.inputs.pop("encode"), tmp_path / "whole")
    for index in range(CLIPS + 1):
        encode_part(run, index, CLIPS + 1)
    run.go(Step.ENCODE)
    assert listing(run, run.inputs["encode"], tmp_path / "gathered") == whole


def test_a_missing_part_is_not_passed_over(encoded21: Run) -> None:
    run = encoded21.fork("lacking")
    del run.inputs["encode"]
    encode_part(run, 0, 2)
    with pytest.raises(ArtifactCorrupt, match=r"no part has the latents of clip\d.mp4"):
        run.go(Step.ENCODE)


def test_a_caption_that_two_parts_stored_is_listed_as_it_is(encoded22: Run, tmp_path: Path) -> None:
    """The last one to store it wins, and on a GPU it need not be the same to the bit."""
    run = encoded22.fork("twice")
    whole = listing(run, run.inputs.pop("encode"), tmp_path / "whole")
    for index in range(2):
        encode_part(run, index, 2)
    caption, empty = whole.clips[0].text, whole.empty_text
    data = {entry.key: run.store.get_bytes(entry.key) for entry in (caption, empty)}
    try:
        for key in data:
            run.store.put_bytes(key, data[key] + b" ")
        run.go(Step.ENCODE)
        gathered = listing(run, run.inputs["encode"], tmp_path / "gathered")
        assert gathered.empty_text == latents.find(run.store, empty.key) != empty
        assert gathered.clips[0].text == latents.find(run.store, caption.key) != caption
        assert gathered.negative_text == whole.negative_text
    finally:
        for key in data:
            run.store.put_bytes(key, data[key])
