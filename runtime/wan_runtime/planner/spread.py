"""What a training holds and exchanges on each of several GPUs.

P parameters, N ranks, s ranks that split the tokens of a clip.
"""

from __future__ import annotations

from wan_runtime.planner.workload import GIB, Clip, Terms, Training

NODE_LINK = 200e9
NETWORK_LINK = 40e9
"""Bytes that a GPU sends a second, within a node by NVLink and between nodes. Judgement: what
collectives reach of 450 and 50 GB/s."""
HOST_LINK = 7.1e9
"""Bytes a second between a GPU and host memory that is not pinned, as 16 layers' state took in one
step of two H200 (docs/measurements-gpu.md)."""
HOST_COPIES = 4
"""Copies of a float32 number for each weight that ZeRO's offload makes in a step: DeepSpeed 0.19.8
moves a gradient to host memory, back for its norm, and there again; then the new weight."""
HOST_ADAM = 100e9
"""Bytes a second that an optimizer on the CPUs of a node moves."""
OUTER_BLOCKS = 2
"""Blocks whose linear layers stay in bfloat16 where the others are kept in FP8."""
GATHERED_BLOCKS = 2
"""Blocks whose weights are whole at a time under ZeRO 3: the one at work and the next."""
COPY = 4.0
"""Bytes of the copy of a trained weight that ZeRO 2 updates."""
BUCKETS_BYTES = 2.4e9
"""Three buckets of 200 million float32 numbers, in which ZeRO reduces and gathers."""
EXCHANGES = 4
"""All-to-alls of a block: of q, k, v and the result (DeepSpeed-Ulysses, section 3)."""


def resident_gib(work: Training) -> Terms:
    """Weights and states on each GPU, float32 where they train.

    The plain path has all of them on each. ZeRO divides gradients and moments, in stage 2 a copy of
    the weights that it updates, and in stage 3 the weights (Rajbhandari et al. 2020, section 3);
    what it offloads is in host memory.
    """
    shape, ranks, zero = work.architecture, work.gpus, work.spread.zero_stage
    p = shape.parameters
    held, copy = (ranks, 0.0) if zero == 3 else (1, COPY)
    terms: Terms
    if work.method == "lora":
        in_8_bits = (shape.layers - OUTER_BLOCKS) * shape.block_linears
        frozen = 2.0 * p - (in_8_bits if work.precision == "FP8" else 0)
        each = 20.0 if work.ema else 16.0
        states = 4.0 + (each + copy - 4.0) / ranks if zero else each
        terms = {
            "base weights": frozen / held / GIB,
            "adapter, gradients, optimizer": states * work.trainable / GIB,
        }
    else:
        moved = work.spread.offload
        divided = ranks if zero else 1
        weights = 0.0 if moved == "OptimizerAndParameters" else 4.0
        others = 0.0 if moved != "None" else 1.0
        terms = {
            "weights": weights * p / held / GIB,
            "gradients": others * 4.0 * p / divided / GIB,
            "optimizer": others * (8.0 + (copy if zero else 0.0)) * p / divided / GIB,
        }
    if zero:
        blocks = GATHERED_BLOCKS if zero == 3 else 0
        gathered = work.bytes_a_weight * blocks * shape.block_parameters
        terms["gathered weights, buckets"] = (gathered + BUCKETS_BYTES) / GIB
    return {name: work.experts * gib for name, gib in terms.items()}


def offloaded_gib(work: Training) -> float:
    """Host memory of a pod for what ZeRO keeps there: gradients, moments and a copy of the weights,
    or the only one, which is pinned: up to twice its size, as PyTorch pins powers of two."""
    per_weight = {"None": 0.0, "Optimizer": 16.0, "OptimizerAndParameters": 20.0}
    weights = work.experts * work.trainable
    return per_weight[work.spread.offload] * weights / work.spread.nodes / GIB


def bytes_a_pass(clip: Clip, ranks: int) -> float:
    """Bytes of activations that each of `ranks` that share the tokens of a clip sends to the others
    in one pass through all blocks."""
    shape = clip.architecture
    share = shape.activation_bytes(clip.tokens) / ranks * (ranks - 1) / ranks
    return EXCHANGES * shape.layers * share


def exchanged_bytes(work: Training, passes: float) -> float:
    """Bytes of activations that each rank sends in one optimizer step to those that share its
    clips."""
    return bytes_a_pass(work, work.spread.sequence) * passes * work.clips_a_rank


def exchange_seconds(work: Training, passes: float, token_link: float) -> Terms:
    """Seconds of one optimizer step in which ranks exchange, as far as that is not hidden.

    Args:
        passes: through all blocks for one clip, backward ones among them.
        token_link: bytes of activations that a rank exchanges a second.
    """
    spread, shape = work.spread, work.architecture
    if work.gpus == 1:
        return {}
    link = NODE_LINK if spread.nodes == 1 else NETWORK_LINK
    others = (work.gpus - 1) / work.gpus
    terms: Terms = {"exchange of gradients": 2.0 * 4.0 * work.trainable * others / link}
    if spread.sequence > 1:
        terms["exchange of tokens"] = exchanged_bytes(work, passes) / token_link
    if spread.zero_stage == 3:
        batches = work.clips_a_rank / work.micro_batch
        weights = work.bytes_a_weight * shape.parameters
        terms["exchange of weights"] = weights * others * passes * batches / link
    return terms


def update_seconds(work: Training, moved: float, bandwidth: float) -> float:
    """Seconds of the optimizer, which moves `moved` bytes in all, by the GPU's `bandwidth` or on
    the CPUs."""
    spread = work.spread
    if spread.offload != "None":
        transfers = HOST_COPIES * 4.0 * work.trainable / work.gpus / HOST_LINK
        return moved / spread.nodes / HOST_ADAM + transfers
    return moved / (work.gpus if spread.zero_stage else 1) / bandwidth
