"""Ranks that train meet, or are told why they cannot."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from forked_ranks import in_places
from job_files import make_job
from wan_runtime.contract.finetune import finetune_of
from wan_runtime.contract.steps import Step
from wan_runtime.contract.training import Parallelism
from wan_runtime.errors import InputError
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.training import meet


def test_ranks_of_a_node_share_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meet, "cores", lambda: set(range(7)))

    def threads(rank: int) -> int:
        meet.meet(Parallelism(gpus_per_node=2))
        return torch.get_num_threads()

    assert in_places(2, threads) == [3, 3]


@pytest.mark.parametrize(
    ("sequence", "dropout", "said"),
    [
        (3, 0.0, "sequence: 4 attention heads do not divide by 3 ranks"),
        (1, 0.5, "lora.dropout is 0.5, but what 3 GPUs drop would depend on their number"),
    ],
)
def test_what_ranks_cannot_do_is_refused(sequence: int, dropout: float, said: str) -> None:
    parallelism = {"gpusPerNode": 3, "sequence": sequence}
    training = {"batchSize": 3, "parallelism": parallelism}
    job = make_job(step=Step.TRAIN, training=training, lora={"dropout": dropout})
    transformer: Any = SimpleNamespace(_attention=SimpleNamespace(heads=4))
    transformer.check_heads = partial(Transformer.check_heads, transformer)
    with pytest.raises(InputError, match=said):
        meet.check(finetune_of(job), transformer)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"emaDecay": 0.9}, "emaDecay is 0.9: with ZeRO leave it out"),
        ({"basePrecision": "FP8"}, "basePrecision is FP8: with ZeRO leave it out"),
        ({"gradientCheckpointing": "Offload"}, "gradientCheckpointing is Offload: .*take Full"),
    ],
)
def test_what_zero_cannot_do_is_refused(training: dict[str, Any], said: str) -> None:
    parallelism = {"gpusPerNode": 2, "zeroStage": 3}
    job = make_job(
        step=Step.TRAIN, training={"batchSize": 2, "parallelism": parallelism, **training}
    )
    transformer: Any = SimpleNamespace(check_heads=lambda _: None)
    with pytest.raises(InputError, match=said):
        meet.check(finetune_of(job), transformer)
