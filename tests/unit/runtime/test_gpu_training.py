"""The benches of training on GPUs, at the size of a Tiny model: what they put in the place of files
and latents has all that the trainer asks of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu import train_turns


def test_steps_in_turn_are_those_of_the_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.json"
    words = ["train_turns.py", "--small", "--rounds", "1", "--codes", "ours,ours-KeepAttention"]
    words += ["--preset", "Wan2.2-I2V-A14B", "--joint", "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    train_turns.main()
    content = json.loads(out.read_text())
    full, kept = content["rows"].values()
    assert full["loss"] == pytest.approx(kept["loss"], rel=1e-3)
    assert full["differsBy"] == 0
    assert content["joint"]["first"]["loss"] > 0
