"""One expert's transformer, as training and serving use it.

The only door to diffsynth's module: its linear layers, what adapters add to them, its attention and
its place in memory are changed here and in the modules beside, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from diffsynth.core.loader.file import hash_state_dict_keys
from torch import Tensor, nn

from wan_runtime import heartbeat
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.service import Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.contract.training import Keeping, LoraSpec
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit import branches, float8_base, float8_linear, lora
from wan_runtime.models.dit.attention import Kernels, SelfAttention, choose
from wan_runtime.models.dit.branches import Branches
from wan_runtime.models.dit.forward import (
    Conditions,
    RunBlocks,
    context_of,
    diffsynth_blocks,
    keep_time_embedding_fp32,
    modulation_of,
    parts_of,
    predict_velocity,
)
from wan_runtime.models.dit.fused import Blocks, rotation_of
from wan_runtime.models.dit.gathered import Parts, Whole
from wan_runtime.models.dit.kept import KeptBlocks
from wan_runtime.models.dit.kernels import KERNELS, pick, require, sdpa
from wan_runtime.models.dit.streamed import Streamed
from wan_runtime.models.dit.tokens import TokenSplit
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import check_device, load_dit, recognised
from wan_runtime.models.offload import Offloaded

# Shapes: B batch, C channels, T latent frames, H W latent rows and columns, L tokens, D width.


class Choice(NamedTuple):
    """Kernels of a video."""

    attention: str
    """Name of the self-attention's."""
    cross: str
    """Name of the cross-attention's."""
    float8: bool
    """Whether linear layers compute in 8 bits."""


class Transformer:
    """A transformer, its adapters, and where its weights are."""

    def __init__(
        self,
        module: nn.Module,
        device: torch.device,
        dtype: torch.dtype,
        *,
        kernels: Kernels = "Auto",
        profile: Profile = "Exact",
        keeping: Keeping | None = None,
        offloaded: bool = False,
        streamed: bool = False,
    ) -> None:
        """Take over diffsynth's module.

        Args:
            device, dtype: of the computation. Weights of another dtype are rounded to it as they
                are used.
            keeping: what training keeps of each block besides its input, and where; None: as
                `begin` says.
            offloaded: the weights stay in host memory; `bring` copies them to the device.
            streamed: those of the blocks stay in host memory, and each is on the device while it
                computes. Not with the profile Exact.

        Raises:
            InputError: JOB_INVALID, if `kernels` names one that cannot be used here, with another
                profile than Exact.
        """
        self.device, self.dtype = device, dtype
        own = choose(kernels)
        self.at_work = Choice(own, own, float8=False)
        """Kernels of the last video."""
        self._module = cast(Any, module)
        self._attention = SelfAttention(self._module.blocks[0].self_attn.num_heads)
        for block in self._module.blocks:
            block.self_attn.attn = self._attention
        keep_time_embedding_fp32(module)
        self._offloaded: Offloaded | Streamed | None = None
        if streamed:
            self._offloaded = Streamed(module, device)
        elif offloaded:
            self._offloaded = Offloaded(module, device)
        self._branches: Branches | None = None
        self._fused: Blocks | None = None
        self._profile = profile
        self.named = None if kernels == "Auto" else kernels
        """Attention kernel that it must use; None: the fastest that is right."""
        if profile != "Exact":
            if self.named is not None:
                require(self.named, device, dtype, self._module.dim // self._attention.heads)
            self._fused = Blocks(module, self._attention, compiled=device.type == "cuda")
            if isinstance(self._offloaded, Streamed):
                blocks = self._offloaded.blocks
                self._fused.each = lambda: closing(blocks())
            self._attention.kernel = sdpa
        self._entire: Callable[..., Tensor] | None = None
        self.gathers = False
        """Whether a pass is of all ranks together, which gather the weights for it."""
        self._kept: KeptBlocks | None = None
        if keeping is not None:
            self._kept = KeptBlocks(
                module, device, dtype, self._attention.heads, keeping, own=kernels == "SDPA"
            )
            self.at_work = self.at_work._replace(attention=self._kept.attention.name)

    @classmethod
    def load(
        cls,
        files: ModelFiles,
        expert: Expert,
        device: torch.device,
        dtype: torch.dtype,
        *,
        storage: torch.dtype | None = None,
        float8: bool = False,
        kernels: Kernels = "Auto",
        profile: Profile = "Exact",
        keeping: Keeping | None = None,
        offloaded: bool = False,
        streamed: bool = False,
    ) -> Transformer:
        """Load an expert, frozen, in eval mode.

        Args:
            storage: dtype of the weights in memory, if not that of the computation.
            float8: keep the linear layers of the inner blocks in 8 bits, for an adapter that is
                trained beside them.

        Raises:
            InputError: MODEL_INVALID, if diffsynth does not recognise the files, or 8 bits cannot
                hold the weights; JOB_INVALID, as when it is made.
            InfrastructureError: as `check_device`.
        """
        check_device(files.preset, device)
        home = torch.device("cpu") if offloaded or streamed or float8 else device
        module = load_dit(files, expert, storage or dtype, home)
        if float8:
            float8_base.store(module, device)
        return cls(
            module,
            device,
            dtype,
            kernels=kernels,
            profile=profile,
            keeping=keeping,
            offloaded=offloaded,
            streamed=streamed,
        )

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shapes of the parameters, by name."""
        return {name: each.shape for name, each in self._module.named_parameters()}

    @property
    def compiled(self) -> bool:
        """Whether its blocks are compiled, as they meet adapters of a higher padded rank, too."""
        return self._fused is not None and self._fused.compiled

    def begin(
        self,
        conditions: Conditions,
        *,
        tokens: TokenSplit | None = None,
        recompute: bool = False,
        choice: Choice | None = None,
    ) -> Pass:
        """Begin a video, or a batch of one training step.

        Args:
            conditions: on the device, in the dtype of the computation.
            tokens: how ranks split its tokens; None: this one has them all.
            recompute: keep only each block's input and run the block again in backward.
            choice: of `choose`, which it is of this rank alone if left out.
        """
        if self._kept is not None:
            blocks = self._training_blocks(self._kept, conditions, tokens)
            return Pass(self, conditions.y_BCTHW, tokens, blocks, self.at_work)
        if self._fused is None:
            blocks = diffsynth_blocks(self._module, conditions, self.dtype, recompute=recompute)
            return Pass(self, conditions.y_BCTHW, tokens, blocks, self.at_work)
        at_work = choice or self.choose(conditions, tokens=tokens)
        fused = self._fused
        context = context_of(self._module, conditions, self.dtype).to(self.dtype)
        crossed = fused.crossed(context)

        def run(x_BLD: Tensor, modulation_B6D: Tensor, freqs: Tensor) -> Tensor:
            with torch.autocast(self.device.type, enabled=False):
                rotation = rotation_of(freqs[:, 0])
                return fused.run(
                    x_BLD,
                    crossed,
                    modulation_B6D,
                    rotation,
                    self._branches,
                    float8=at_work.float8,
                )

        return Pass(self, conditions.y_BCTHW, tokens, run, at_work)

    def choose(
        self,
        conditions: Conditions,
        *,
        tokens: TokenSplit | None = None,
        profile: Profile | None = None,
    ) -> Choice:
        """Choose a video's kernels: those that are right and fastest on this device, at its number
        of tokens, or the one that was named. The answer is kept.

        Args:
            profile: Lossless, Balanced or Fast, of a transformer that is not Exact: for this video,
                in place of the transformer's own.
        """
        if self._fused is None:
            return self.at_work
        count = math.prod(conditions.y_BCTHW.shape[2:]) // math.prod(self._module.patch_size)
        heads, width, ranks, shares = self._attention.heads, self._module.dim, 1, 1
        if tokens is not None:
            ranks, shares = tokens.group.size, tokens.group.shares
        here, wanted = (self.device, self.dtype), profile or self._profile
        shape = (*here, heads // shares, width // heads, count)
        return Choice(
            # What goes round in a ring is added up by its weights, which 8 bits do not give.
            pick(*shape, wanted if shares == ranks else "Lossless", self.named),
            # A few texts' keys take no time, and are no place to lose bits at.
            pick(*shape, "Lossless", self.named),
            float8_linear.worth_it(
                *here, width, self._module.blocks[0].ffn[0].out_features, count // ranks, wanted
            ),
        )

    @torch.no_grad()
    def modulation(self, sigma: float) -> Tensor:
        """Modulation of the blocks by a noise level, [1, 6, D] float32."""
        return modulation_of(self._module, torch.tensor([sigma], device=self.device))[1]

    def _training_blocks(
        self, kept: KeptBlocks, conditions: Conditions, tokens: TokenSplit | None
    ) -> RunBlocks:
        def run(x_BLD: Tensor, modulation_B6D: Tensor, freqs: Tensor) -> Tensor:
            context = context_of(self._module, conditions, self.dtype).to(self.dtype)
            crossed = kept.crossed(context)
            with torch.autocast(self.device.type, enabled=False):
                return kept.run(x_BLD, crossed, modulation_B6D, freqs[:, 0], tokens)

        return run

    @contextmanager
    def adapted(self, uses: Sequence[tuple[Changes, float]]) -> Iterator[None]:
        """Have adapters at work, each with its strength, for as long as it lasts. The weights stay
        as they are: afterwards the transformer is what it was, to the bit."""
        with branches.applied(self._module, uses, self.device) as at_work:
            self._branches = at_work
            try:
                yield
            finally:
                self._branches = None

    def share_host_memory(self, other: Transformer) -> None:
        """Keep what training keeps in host memory where `other` does: they are never between
        forward and backward at the same time."""
        if self._kept is not None and other._kept is not None:
            self._kept.copies = other._kept.copies

    def add_lora(self, spec: LoraSpec, seed: int) -> dict[str, nn.Parameter]:
        """Put a LoRA to be trained beside the frozen weights; its parameters by name, in float32.

        Raises:
            InputError: LORA_TARGET_UNKNOWN, naming the targets that match nothing; JOB_INVALID for
                dropout in blocks that are run again and would draw anew.
        """
        if self._kept is not None and spec.dropout:
            text = "gradientCheckpointing: KeepAttention and Offload train a LoRA without dropout"
            raise InputError(Reason.JOB_INVALID, text)
        trainable = lora.inject(self._module, spec, seed)
        self._module.train()
        return trainable

    def unfreeze(self) -> dict[str, nn.Parameter]:
        """Have all weights trained; the parameters by name.

        Raises:
            InputError: MODEL_INVALID, if the result could not be loaded under these names.
        """
        if not recognised(hash_state_dict_keys(self._module.state_dict())):
            raise InputError(
                Reason.MODEL_INVALID,
                "method.full needs a transformer that diffsynth recognises by its own tensor "
                "names: take the weights in the layout of the official release",
            )
        self._module.requires_grad_().train()
        return dict(self._module.named_parameters())

    def parts(self) -> Parts:
        """The transformer in parts that ranks gather one after another; its blocks must keep no
        more than their inputs. From then on passes go through them."""
        assert self._kept is None, "kept blocks read weights that are not gathered"
        return parts_of(self._module)

    def whole(self) -> Whole:
        """The transformer as one part."""
        return Whole(self._module)

    def run_in(self, entire: Callable[..., Tensor], *, gathers: bool) -> None:
        """Have each pass run in `entire`, which is called with a function and its arguments.

        Args:
            gathers: ranks gather the weights for each pass: it is of all of them together.
        """
        self._entire, self.gathers = entire, gathers

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Switch dropout off for as long as it lasts."""
        training = self._module.training
        self._module.eval()
        try:
            yield
        finally:
            self._module.train(training)

    def check_heads(self, shares: int) -> None:
        """Raises ValueError if the attention heads cannot be divided into so many shares."""
        heads = self._attention.heads
        if heads % shares:
            raise ValueError(f"{heads} attention heads do not divide by {shares} ranks")

    def bring(self) -> None:
        """Bring the weights to the device, where they already may be."""
        if self._offloaded is not None:
            self._offloaded.bring()

    def leave(self) -> None:
        """Free the device's memory, if the weights are offloaded."""
        if self._offloaded is not None:
            self._offloaded.leave()

    def _velocity(self, on: Pass, noisy_BCTHW: Tensor, sigmas_B: Tensor) -> Tensor:
        self._attention.tokens = on.tokens
        self.at_work = on.choice
        if self._fused is not None:
            self._attention.kernel = KERNELS[on.choice.attention]
            self._fused.cross = KERNELS[on.choice.cross]
        inputs = (self._module, noisy_BCTHW, sigmas_B, on.y_BCTHW, on.blocks)
        if self._entire is None:
            return predict_velocity(*inputs, dtype=self.dtype, tokens=on.tokens)
        return self._entire(predict_velocity, *inputs, dtype=self.dtype, tokens=on.tokens)


@dataclass(frozen=True, slots=True)
class Pass:
    """A video's, or a batch's, way through a transformer under one set of conditions."""

    transformer: Transformer
    y_BCTHW: Tensor
    tokens: TokenSplit | None
    blocks: RunBlocks
    choice: Choice

    def velocity(self, noisy_BCTHW: Tensor, sigmas_B: Tensor) -> Tensor:
        """v [B, 16, T, H, W] in float32, of 16-channel latents at noise levels `sigmas_B`.
        Collective, where tokens are split."""
        heartbeat.beat()
        return self.transformer._velocity(self, noisy_BCTHW, sigmas_B)


def shapes_of(transformers: Mapping[Expert, Transformer]) -> dict[Expert, dict[str, torch.Size]]:
    """Shapes of the parameters of each expert's."""
    return {expert: each.shapes for expert, each in transformers.items()}
