"""Blocks that keep what their self-attention found, for training.

Between forward and backward a block keeps its input, the result of its self-attention and the
log-sum-exp; the rest is computed again in backward, but never the attention, which is most of the
work. What is kept lies on the GPU or, where it does not fit, in pinned host memory: copied there
while the next blocks run, and fetched a block ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast, get_type_hints

import torch
from torch import Tensor, nn

from wan_runtime.contract.training import Keeping
from wan_runtime.models.adapters.dialects import ADAPTER
from wan_runtime.models.dit import gradients, lora
from wan_runtime.models.dit.compiled import for_any_tokens
from wan_runtime.models.dit.forward import autocast, run
from wan_runtime.models.dit.fused import (
    Crossed,
    Linear,
    Part,
    Weights,
    attention_inputs,
    cross_query,
    crossed_of,
    feed_forward,
    feed_forward_inputs,
    rotation_of,
)
from wan_runtime.models.dit.gradients import SplitAttention
from wan_runtime.models.dit.host import HostCopies
from wan_runtime.models.dit.tokens import TokenSplit

# Shapes: B batch, L tokens, which are those of this rank where ranks split them, D model width, F
# width of the feed-forward layers, R rank.

IS_LAYER = tuple(kind is Linear for kind in get_type_hints(Weights).values())
"""Whether each field of the weights is a layer of several tensors."""
WORKING_UNITS = 26
"""Device memory that a block needs while it is computed or differentiated, in hidden states of all
tokens. Measured at 14B: 23."""
EXCHANGED_UNITS = 5
"""What is added to it by ranks that split the tokens: queries, keys, values and the gradient twice,
once as all heads of their own tokens; and what is sent."""
SPARE = 0.06
"""Share of the device's memory that stays free of kept results."""


Inputs = Callable[[Sequence[Tensor], Tensor, Weights], tuple[Tensor, Tensor]]


class KeptBlocks:
    """All blocks of a transformer, differentiable with respect to everything that is trained."""

    def __init__(
        self,
        module: Any,
        device: torch.device,
        dtype: torch.dtype,
        heads: int,
        keeping: Keeping,
        *,
        own: bool = False,
    ) -> None:
        """
        Args:
            module: diffsynth's transformer, with or without a LoRA beside its layers.
            own: PyTorch's own attention kernels alone.
        """
        self._module, self._dtype, self.heads, self.keeping = module, dtype, heads, keeping
        self.attention = gradients.choose(device, own=own)
        self.copies = HostCopies(device)
        self.on_device = len(module.blocks)
        """Number of blocks, counted from the last, whose attention is kept on the device."""
        self.before: Part[tuple[Tensor, Tensor, Tensor]] = attention_inputs
        self.between: Part[tuple[Tensor, Tensor]] = cross_query
        self.inputs: Inputs = feed_forward_inputs
        self.after: Part[Tensor] = feed_forward
        if device.type == "cuda":
            self.before = for_any_tokens(self.before)
            self.between = for_any_tokens(self.between)
            self.inputs = for_any_tokens(self.inputs)
            self.after = for_any_tokens(self.after)

    def run(
        self,
        x_BLD: Tensor,
        crossed: Sequence[Crossed],
        modulation_B6D: Tensor,
        freqs_Ld: Tensor,
        tokens: TokenSplit | None = None,
    ) -> Tensor:
        """Hidden states [B, L, D] after all blocks. Collective, where ranks split the tokens."""
        rotation = rotation_of(freqs_Ld)
        own = SplitAttention(self.attention, self.heads, tokens)
        units = WORKING_UNITS if tokens is None else WORKING_UNITS + EXCHANGED_UNITS
        self._place(x_BLD, units * x_BLD.nbytes + own.workspace(x_BLD))
        for index, (block, pairs) in enumerate(zip(self._module.blocks, crossed, strict=True)):
            weights = _weights(block, x_BLD.dtype)
            if torch.is_grad_enabled():
                tensors = (*chain.from_iterable(pairs), *_flat(weights))
                places = (self, own, index, rotation, len(pairs))
                x_BLD = _Block.apply(*places, x_BLD, modulation_B6D, *tensors)
            else:
                parts = Parts(pairs, weights)
                x_BLD, *_ = self.forward(own, rotation, x_BLD, modulation_B6D, parts)
        return x_BLD

    def crossed(self, context_BLD: Tensor) -> list[Crossed]:
        """Keys and values of the blocks' cross-attentions, of a batch's texts and photos."""

        def apply(module: nn.Module, x: Tensor) -> Tensor:
            made: Tensor = run(module, self._dtype, x)
            return made

        with autocast(context_BLD.device, self._dtype):
            blocks = self._module.blocks
            return [crossed_of(block.cross_attn, context_BLD, apply) for block in blocks]

    def _place(self, x_BLD: Tensor, working: int) -> None:
        """Decide how much of what is kept lies on the device, given the bytes that a block needs
        while it is computed."""
        layers = len(self._module.blocks)
        self.on_device = 0 if self.keeping == "Offload" else layers
        if self.keeping == "Offload" or x_BLD.device.type != "cuda" or not torch.is_grad_enabled():
            return
        unit = x_BLD.nbytes
        free, total = torch.cuda.mem_get_info(x_BLD.device)
        cached = torch.cuda.memory_reserved(x_BLD.device) - torch.cuda.memory_allocated(
            x_BLD.device
        )
        room = free + cached - SPARE * total - layers * unit - working
        self.on_device = max(0, min(layers, int(room // unit)))

    def forward(
        self, own: SplitAttention, rotation: Any, x: Tensor, modulation: Tensor, parts: Parts
    ) -> Any:
        """(hidden states after the block, result of the self-attention, log-sum-exp); the last two
        of this rank's heads. Collective, where ranks split the tokens."""
        w = dense(parts.weights, x.dtype)
        q, k, v = self.before((x, *rotation), modulation, w)
        found, sums = own.forward(q, k, v)
        del q, k, v
        x, q = self.between((x, own.joined(found)), modulation, w)
        others = [
            self.attention.forward(q, key, value, self.heads)[0] for key, value in parts.pairs
        ]
        return self.after((x, *others), modulation, w), found, sums

    def keeps_found(self, index: int) -> bool:
        """Whether the block's result of attention stays on the device."""
        return index >= len(self._module.blocks) - self.on_device


@dataclass(frozen=True, slots=True)
class Parts:
    """What a block computes with, apart from the tokens."""

    pairs: Crossed
    weights: Weights

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None], pairs: int) -> Parts:
        """From the keys and values of `pairs` cross-attentions and the flat weights."""
        crossed = cast(Sequence[Tensor], tensors[: 2 * pairs])
        return cls(
            list(zip(crossed[::2], crossed[1::2], strict=True)), _unflat(tensors[2 * pairs :])
        )


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, blocks: KeptBlocks, own: SplitAttention, index: int, rotation: Any, pairs: int,
        x: Tensor, modulation: Tensor, *tensors: Tensor | None,
    ) -> Tensor:  # fmt: skip
        y, found, sums = blocks.forward(own, rotation, x, modulation, Parts.of(tensors, pairs))
        ctx.blocks, ctx.own, ctx.index, ctx.rotation, ctx.pairs = (
            blocks,
            own,
            index,
            rotation,
            pairs,
        )
        kept: list[Tensor | None] = [None, None]
        if not any(ctx.needs_input_grad):
            return cast(Tensor, y)
        if blocks.keeping == "Offload":
            ctx.x = blocks.copies.put(("x", index), x)
        else:
            kept[0] = x
        if blocks.keeps_found(index):
            kept[1] = found
        else:
            ctx.found = blocks.copies.put(("found", index), found)
        ctx.save_for_backward(*kept, sums, modulation, *tensors)
        return cast(Tensor, y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        blocks, index = ctx.blocks, ctx.index
        x, found, sums, modulation, *tensors = ctx.saved_tensors
        if x is None:
            x = blocks.copies.take(ctx.x)
        if found is None:
            found = blocks.copies.take(ctx.found)
        blocks.copies.fetch_before(index)
        wanted = ctx.needs_input_grad[5:]
        leaves: list[Any] = [
            each if each is None else each.detach().requires_grad_(needed)
            for each, needed in zip((x, modulation, *tensors), wanted, strict=True)
        ]
        parts = Parts.of(leaves[2:], ctx.pairs)
        parts = replace(parts, weights=dense(parts.weights, x.dtype))
        joined = ctx.own.joined(found).detach().requires_grad_()
        trained = [each for each in leaves if each is not None and each.requires_grad]
        inputs = [joined, *trained]
        late = _after_attention(blocks, leaves[0], joined, leaves[1], parts, gradient, inputs)
        attended = late[0], found, sums
        early = _before_attention(
            blocks, ctx.own, ctx.rotation, leaves[0], leaves[1], parts, attended, trained
        )
        made = iter([_sum(a, b) for a, b in zip(late[1:], early, strict=True)])
        grads = [next(made) if each is not None and each.requires_grad else None for each in leaves]
        return None, None, None, None, None, *grads


def _after_attention(
    blocks: KeptBlocks, x: Tensor, found: Tensor, modulation: Tensor, parts: Parts,
    gradient: Tensor, inputs: Sequence[Tensor],
) -> Sequence[Tensor | None]:  # fmt: skip
    """Gradients of the part behind the self-attention, with respect to `inputs`."""
    w = parts.weights
    with torch.enable_grad():
        x, q = blocks.between((x, found), modulation, w)
        others = [blocks.attention(q, key, value, blocks.heads) for key, value in parts.pairs]
        if modulation.requires_grad or w.modulation.requires_grad:  # the gate reads the last layer
            y = blocks.after((x, *others), modulation, w)
            return torch.autograd.grad(y, inputs, gradient, allow_unused=True)
        x, h = blocks.inputs((x, *others), modulation, w)
    # Only the gate would read what the last layer gives: it need not be computed again.
    gate = modulation[:, 5:6] + w.modulation.float()[:, 5:6]
    behind = (gradient.float() * gate).to(gradient.dtype)
    of_h, of_layer = _linear_gradients(behind, h.detach(), w.ffn_out)
    found_grads = torch.autograd.grad((x, h), inputs, (gradient, of_h), allow_unused=True)
    own = {id(tensor): grad for tensor, grad in of_layer}
    return [_sum(grad, own.get(id(each))) for each, grad in zip(inputs, found_grads, strict=True)]


def _before_attention(
    blocks: KeptBlocks, own: SplitAttention, rotation: Any, x: Tensor, modulation: Tensor,
    parts: Parts, attended: tuple[Tensor | None, Tensor, Tensor], inputs: Sequence[Tensor],
) -> Sequence[Tensor | None]:  # fmt: skip
    """Gradients of the self-attention and of what is before it, with respect to `inputs`."""
    gradient, found, sums = attended
    assert gradient is not None
    with torch.enable_grad():
        q, k, v = blocks.before((x, *rotation), modulation, parts.weights)
    with torch.no_grad():
        made = own.backward(gradient, q, k, v, found, sums)
    pairs = [(out, grad) for out, grad in zip((q, k, v), made, strict=True) if out.requires_grad]
    if not pairs or not inputs:
        return [None] * len(inputs)
    outputs, grads = zip(*pairs, strict=True)
    return torch.autograd.grad(outputs, inputs, grads, allow_unused=True)


def _linear_gradients(
    gradient: Tensor, h: Tensor, layer: Linear
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Gradients of a linear layer: of its input, and of each of its tensors that is trained."""
    g, x = gradient.flatten(0, 1), h.flatten(0, 1)
    of_x = g @ layer.weight.to(g.dtype)
    made = []
    if layer.a_RI is not None and layer.b_OR is not None:
        between = g @ layer.b_OR
        of_x = of_x.addmm_(between, layer.a_RI)
        if layer.a_RI.requires_grad:
            made += [(layer.a_RI, between.T @ x), (layer.b_OR, g.T @ (x @ layer.a_RI.T))]
    if layer.weight.requires_grad:
        made.append((layer.weight, (g.T @ x).to(layer.weight.dtype)))
        made.append((layer.bias, g.sum(0, dtype=torch.float32).to(layer.bias.dtype)))
    return of_x.view_as(h), made


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _flat(w: Weights) -> Iterator[Tensor | None]:
    for each in w:
        if isinstance(each, Linear):
            yield from each
        else:
            yield each


def _unflat(tensors: Sequence[Tensor | None]) -> Weights:
    """Reverse of `_flat`."""
    left = iter(tensors)
    made: list[Any] = []
    for is_layer in IS_LAYER:
        many = len(Linear._fields)
        made.append(Linear(*(next(left) for _ in range(many))) if is_layer else next(left))  # type: ignore[arg-type]
    return Weights(*made)


def _weights(block: Any, dtype: torch.dtype) -> Weights:
    own, cross = block.self_attn, block.cross_attn
    return Weights(
        block.modulation,
        _linear(own.q, dtype),
        _linear(own.k, dtype),
        _linear(own.v, dtype),
        _linear(own.o, dtype),
        own.norm_q.weight,
        own.norm_k.weight,
        block.norm3.weight,
        block.norm3.bias,
        _linear(cross.q, dtype),
        cross.norm_q.weight,
        _linear(cross.o, dtype),
        _linear(block.ffn[0], dtype),
        _linear(block.ffn[2], dtype),
    )


def dense(w: Weights, dtype: torch.dtype) -> Weights:
    """Weights of a block, of which none is of 8 bits. They live as long as the block is at work."""
    layers = (each.dense(dtype) if isinstance(each, Linear) else each for each in w)
    return Weights(*layers)  # type: ignore[arg-type]


def _linear(layer: Any, dtype: torch.dtype) -> Linear:
    """A layer with the LoRA that is trained beside it, if there is one."""
    base, a, b = layer, None, None
    if lora.is_adapted(layer):
        base = layer.base_layer
        a = layer.lora_A[ADAPTER].weight.to(dtype)
        b = (layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]).to(dtype)
    return Linear(base.weight, base.bias, a, b, getattr(base, "scale_O1", None))
