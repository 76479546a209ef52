"""DeepSpeed's configuration of a run."""

from __future__ import annotations

from wan_runtime.contract.training import Parallelism, TrainingSpec
from wan_runtime.training.zero_config import zero_config


def test_nothing_is_left_to_a_default_that_acts() -> None:
    ranks = Parallelism(gpus_per_node=2, zero_stage=3, offload="Optimizer")
    spec = TrainingSpec(
        batch_size=3, gradient_accumulation=4, max_gradient_norm=0.3, parallelism=ranks
    )
    config = zero_config(spec)
    assert config["gradient_clipping"] == 0.3
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (
        3,
        2,
    )
    precisions = ("bf16", "fp16", "torch_autocast")
    assert not any(config[name]["enabled"] for name in precisions)
    assert config["data_types"]["grad_accum_dtype"] == config["communication_data_type"] == "fp32"
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert "offload_param" not in config["zero_optimization"]
