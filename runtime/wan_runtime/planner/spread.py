"""What a training holds and exchanges on each of several GPUs. Predicted: no row is of it.

P parameters, N ranks, s ranks that split the tokens of a clip.
"""

from __future__ import annotations

from wan_runtime.planner.workload import GIB, Terms, Training

NODE_LINK = 200e9
NETWORK_LINK = 40e9
"""Bytes that a GPU sends a second, within a node by NVLink and between nodes. Judgement: what
collectives reach of 450 and 50 GB/s."""
HOST_LINK = 20e9
"""Bytes a second between a GPU and host memory."""
HOST_ADAM = 100e9
"""Bytes a second that an optimizer on the CPUs of a node moves."""
OUTER_BLOCKS = 2
"""Blocks whose linear layers stay in bfloat16 where the others are kept in FP8."""
GATHERED_BLOCKS = 2
"""Blocks whose weights are whole at a time under ZeRO 3: the one at work and the next."""
EXCHANGES = 4
"""All-to-alls of a block: of q, k, v and the result (DeepSpeed-Ulysses, section 3)."""


def resident_gib(work: Training) -> Terms:
    """Weights and states on each GPU.

    The plain path keeps float32 weights of what trains. ZeRO keeps bfloat16 weights and gradients,
    and the float32 copy with its two moments apart (ZeRO: Rajbhandari et al. 2020, section 3).
    """
    shape, ranks, stage = work.architecture, work.gpus, work.spread.zero_stage
    p = shape.parameters
    gathered = 2.0 * GATHERED_BLOCKS * shape.block_parameters / GIB if stage == 3 else 0.0
    held = 1 if stage < 3 else ranks
    terms: Terms
    if work.method == "lora":
        in_8_bits = (shape.layers - OUTER_BLOCKS) * shape.block_linears
        frozen = 2.0 * p - (in_8_bits if work.precision == "FP8" else 0)
        each = 20.0 if work.ema else 16.0
        states = each if stage == 0 else 4.0 + (each - 4.0) / ranks
        terms = {
            "base weights": frozen / held / GIB,
            "adapter, gradients, optimizer": states * work.trainable / GIB,
        }
    elif stage == 0:
        terms = {
            "weights": 4.0 * p / GIB,
            "gradients": 4.0 * p / GIB,
            "optimizer": 8.0 * p / GIB,
        }
    else:
        on_gpu = work.spread.offload == "None"
        weights = 0.0 if work.spread.offload == "OptimizerAndParameters" else 2.0
        terms = {
            "weights": weights * p / held / GIB,
            "gradients": 2.0 * p / ranks / GIB,
            "optimizer": (12.0 * p / ranks if on_gpu else 0.0) / GIB,
        }
    return terms | ({"gathered blocks": gathered} if gathered else {})


def offloaded_gib(work: Training) -> float:
    """Host memory of a pod for what ZeRO keeps there: float32 weights, moments and gradients, and
    with parameters the bfloat16 weights."""
    per_weight = {"None": 0.0, "Optimizer": 16.0, "OptimizerAndParameters": 18.0}
    share = work.spread.gpus_per_node / work.gpus
    return per_weight[work.spread.offload] * work.trainable * share / GIB


def exchange_seconds(work: Training, passes: float) -> Terms:
    """Seconds of one optimizer step in which ranks exchange, as far as that is not hidden.

    Args:
        passes: through all blocks for one clip, backward ones among them.
    """
    spread, shape = work.spread, work.architecture
    if work.gpus == 1:
        return {}
    link = NODE_LINK if spread.nodes == 1 else NETWORK_LINK
    split = spread.sequence
    share = shape.activation_bytes(work.tokens) / split * (split - 1) / split
    tokens = EXCHANGES * shape.layers * share * passes * work.clips_a_rank / NODE_LINK
    trained = (2.0 if spread.zero_stage else 4.0) * work.trainable
    others = (work.gpus - 1) / work.gpus
    terms: Terms = {"exchange of gradients": 2.0 * trained * others / link}
    if split > 1:
        terms["exchange of tokens"] = tokens
    if spread.zero_stage == 3:
        batches = work.clips_a_rank / work.micro_batch
        terms["exchange of weights"] = 2.0 * shape.parameters * others * passes * batches / link
    return terms


def update_seconds(work: Training, moved: float, bandwidth: float) -> float:
    """Seconds of the optimizer, which moves `moved` bytes in all, by the GPU's `bandwidth` or on
    the CPUs."""
    spread = work.spread
    if spread.offload != "None":
        share = spread.gpus_per_node / work.gpus
        transfers = 4.0 * work.trainable / work.gpus / HOST_LINK
        return moved * share / HOST_ADAM + transfers
    return moved / (work.gpus if spread.zero_stage else 1) / bandwidth
