"""Gradients of attention that repeat to the bit.

The fastest kernels let blocks of keys add to a query's gradient as they come, in another order each
time. cuDNN has a second way, in which they wait for their turn; PyTorch does not hand it on, so its
graph is made here with NVIDIA's own bindings.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wan_runtime.models.dit.kernels import by_head
from wan_runtime.planner.workspace import heads_at_once

log = logging.getLogger(__name__)

# Shapes: B batch, L tokens, H heads, d width of a head, D all heads together.

BINDINGS = "cudnn"
"""Module of the package nvidia-cudnn-frontend."""
CHECKED = 640
"""Tokens of the trial: several blocks of each kernel."""
MOST_ERROR = 0.02
"""Relative error of a gradient in bfloat16, at most; usual are 0.004."""


class Sizes(NamedTuple):
    """What a kernel is made for."""

    device: torch.device
    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    """Width of a head."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    graph: Any
    handle: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


def cudnn_backward(
    gradient_BLD: Tensor, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, found_BLD: Tensor,
    sums_BHL: Tensor, heads: int, *, few: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v [B, L, D] in bfloat16, from that of the result, the result and its
    log-sum-exp. Equal arguments give equal bits.

    Args:
        few: heads at a time; by default as `planner.workspace` says.
    """
    batch, queries, width = q_BLD.shape
    keys = k_BLD.shape[1]
    few = few or heads_at_once(batch, heads, queries, keys)
    return _in_turn(
        _Cudnn(Sizes(q_BLD.device, batch, few, queries, keys, width // heads)),
        (q_BLD, k_BLD, v_BLD, found_BLD, gradient_BLD), sums_BHL, heads, few,
    )  # fmt: skip


class _Cudnn:
    """Gradients of some heads, with one workspace for all calls."""

    def __init__(self, sizes: Sizes) -> None:
        self._kernel = _kernel(sizes)
        self._space = torch.empty(
            self._kernel.graph.get_workspace_size(), dtype=torch.uint8, device=sizes.device
        )
        importlib.import_module(BINDINGS).set_stream(
            handle=self._kernel.handle, stream=torch.cuda.current_stream(sizes.device).cuda_stream
        )

    def __call__(self, given: Sequence[Tensor], sums: Tensor) -> list[Tensor]:
        made = [torch.empty_like(each) for each in given[:3]]
        kernel = self._kernel
        places = (*kernel.inputs, *kernel.outputs)
        kernel.graph.execute(
            dict(zip(places, (*given, sums, *made), strict=True)),
            self._space,
            handle=kernel.handle,
        )
        return made


def _in_turn(
    differentiate: Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]],
    given_BLD: Sequence[Tensor], sums_BHL: Tensor, heads: int, few: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k and v, `few` heads at a time, which are contiguous then.

    Args:
        differentiate: (q, k, v, result and gradient of these heads; log-sum-exp) -> gradients.
        given_BLD: q, k, v, result and gradient of all heads.
    """
    if few == heads:
        dq, dk, dv = differentiate([each.contiguous() for each in given_BLD], sums_BHL.contiguous())
        return dq, dk, dv
    split = [by_head(each, heads) for each in given_BLD]
    dq, dk, dv = made = [torch.empty_like(each).contiguous() for each in given_BLD[:3]]
    for first in range(0, heads, few):
        part = slice(first, first + few)
        these = [each[:, :, part].flatten(2).contiguous() for each in split]
        of_these = differentiate(these, sums_BHL[:, part].contiguous())
        for whole, each in zip(made, of_these, strict=True):
            by_head(whole, heads)[:, :, part] = by_head(each, few)
    return dq, dk, dv


def flash_backward(
    gradient_BLD: Tensor, q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, found_BLD: Tensor,
    sums_BHL: Tensor, heads: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As `cudnn_backward`, by PyTorch's FlashAttention-2, which is slower: it repeats where PyTorch
    was set to use deterministic algorithms alone."""
    longest = q_BLD.shape[1], k_BLD.shape[1]
    given = (gradient_BLD, q_BLD, k_BLD, v_BLD, found_BLD)
    gradient, q, k, v, found = (
        each.view(*each.shape[:2], heads, -1).transpose(1, 2) for each in given
    )
    drawn = torch.zeros(2, dtype=torch.uint64, device=q.device)  # nothing is dropped
    made = torch.ops.aten._scaled_dot_product_flash_attention_backward(
        gradient, q, k, v, found, sums_BHL, None, None, *longest, 0.0, False, drawn, drawn[:0]
    )
    dq, dk, dv = (each.transpose(1, 2).flatten(2) for each in made)
    return dq, dk, dv


@lru_cache
def cudnn_works(device: torch.device) -> bool:
    """Whether cuDNN's way is there, is right, and repeats; the answer is kept. Its bindings are no
    part of PyTorch, and not every version of cuDNN has it for every GPU."""
    if importlib.util.find_spec(BINDINGS) is None:
        log.warning("nvidia-cudnn-frontend is not installed: repeatable gradients take longer")
        return False
    draw = torch.Generator(device).manual_seed(0)
    shape = (1, CHECKED, 256)
    q, k, v, gradient = (
        torch.randn(shape, generator=draw, device=device).bfloat16() for _ in range(4)
    )
    leaves = [each.float().view(1, CHECKED, 2, 128).transpose(1, 2) for each in (q, k, v)]
    leaves = [each.detach().requires_grad_() for each in leaves]
    logits = leaves[0] @ leaves[1].transpose(-2, -1) / 128**0.5
    sums = logits.detach().logsumexp(-1)
    found = (logits.softmax(-1) @ leaves[2]).transpose(1, 2).flatten(2)
    wanted = torch.autograd.grad(found, leaves, gradient.float())
    arguments = (gradient, q, k, v, found.detach().bfloat16(), sums, 2)
    try:  # all heads at once and one at a time, as few and many tokens have it
        made, again = ([cudnn_backward(*arguments, few=few) for few in (2, 1)] for _ in range(2))
    except Exception as error:  # of the bindings, which have their own for each cause
        log.warning("cuDNN's repeatable gradients are left out: %s", str(error).partition("\n")[0])
        return False
    exact = [each.transpose(1, 2).flatten(2) for each in wanted]
    off = max(
        float((a.float() - b).norm() / b.norm())
        for each in made
        for a, b in zip(each, exact, strict=True)
    )
    repeats = all(torch.equal(a, b) for a, b in zip(chain(*made), chain(*again), strict=True))
    if not (repeats and off <= MOST_ERROR):
        log.warning("cuDNN's repeatable gradients are off by %.3g and left out", off)
    return repeats and off <= MOST_ERROR


@lru_cache(maxsize=64)
def _kernel(sizes: Sizes) -> _Kernel:
    bindings = importlib.import_module(BINDINGS)
    with torch.cuda.device(sizes.device):
        handle = bindings.create_handle()
        graph, inputs, outputs = described(sizes, handle)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([bindings.heur_mode.A])
        graph.check_support()
        graph.build_plans()
    return _Kernel(graph, handle, inputs, outputs)


def described(sizes: Sizes, handle: Any) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    """cuDNN's graph of the gradient, its inputs and its outputs."""
    bindings = importlib.import_module(BINDINGS)
    kinds = bindings.data_type
    graph = bindings.pygraph(
        io_data_type=kinds.BFLOAT16,
        intermediate_data_type=kinds.FLOAT,
        compute_data_type=kinds.FLOAT,
        handle=handle,
    )
    batch, heads, width = sizes.batch, sizes.heads, sizes.width

    def layout(tokens: int) -> tuple[list[int], list[int]]:
        rows = heads * width
        return [batch, heads, tokens, width], [tokens * rows, width, rows, 1]

    def tensor(name: str, tokens: int) -> Any:
        dim, stride = layout(tokens)
        return graph.tensor(name=name, dim=dim, stride=stride, data_type=kinds.BFLOAT16)

    q = tensor("q", sizes.queries)
    k, v = tensor("k", sizes.keys), tensor("v", sizes.keys)
    found, gradient = tensor("o", sizes.queries), tensor("dO", sizes.queries)
    sums = graph.tensor(
        name="stats",
        dim=[batch, heads, sizes.queries, 1],
        stride=[heads * sizes.queries, sizes.queries, 1, 1],
        data_type=kinds.FLOAT,
    )
    made = graph.sdpa_backward(
        q=q, k=k, v=v, o=found, dO=gradient, stats=sums, attn_scale=width**-0.5,
        use_causal_mask=False, use_deterministic_algorithm=True,
    )  # fmt: skip
    for each, tokens in zip(made, (sizes.queries, sizes.keys, sizes.keys), strict=True):
        dim, stride = layout(tokens)
        each.set_output(True).set_dim(dim).set_stride(stride).set_data_type(kinds.BFLOAT16)
    return graph, (q, k, v, found, gradient, sums), tuple(made)
