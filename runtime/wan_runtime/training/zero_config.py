"""DeepSpeed's configuration of a run, from its specification.

Nothing is left to a default that acts: DeepSpeed 0.19 clips to 1 where no value is given, casts
adapters where a precision is named, and keeps small parameters whole.
"""

from __future__ import annotations

from typing import Any

from wan_runtime.contract.training import TrainingSpec

BUCKET = 200_000_000
"""Elements that are reduced at once, and gathered ahead: those of half a block at 14B."""


def zero_config(spec: TrainingSpec) -> dict[str, Any]:
    """DeepSpeed's configuration, as its JSON file has it.

    Parameters, gradients, their reduction and AdamW's moments are float32, as without DeepSpeed:
    the forward pass rounds weights as it uses them.
    """
    ranks = spec.parallelism
    size, count = spec.parts(ranks.data)
    zero: dict[str, Any] = {
        "stage": ranks.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": True,
        "reduce_scatter": True,
        "reduce_bucket_size": BUCKET,
        "allgather_bucket_size": BUCKET,
        "round_robin_gradients": False,
    }
    if ranks.zero_stage == 3:
        zero |= {
            "sub_group_size": 5 * BUCKET,
            "stage3_prefetch_bucket_size": BUCKET,
            "stage3_max_live_parameters": 5 * BUCKET,
            "stage3_max_reuse_distance": 0,
            "stage3_param_persistence_threshold": 0,
        }
    if ranks.offload != "None":
        # Pinned memory comes in powers of two, and what is let go of stays with the process.
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False}
    if ranks.offload == "OptimizerAndParameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": False}
    return {
        "train_micro_batch_size_per_gpu": size,
        "gradient_accumulation_steps": count,
        "gradient_clipping": spec.max_gradient_norm,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "torch_autocast": {"enabled": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": zero,
        # torch's AdamW in one kernel, which has one for the CPU too: built before, not at run time.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": False,
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
