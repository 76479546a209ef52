"""Shapes of the Wan transformers: parameters, tokens and arithmetic, counted from their layers.

d is the width, f the width of the MLP, S the tokens of a clip. FLOPs count a multiply-add as two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wan_runtime import model_parts
from wan_runtime.contract.strides import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from wan_runtime.presets import PRESETS

TEXT_TOKENS = 512
IMAGE_TOKENS = 257
HEADS, TINY_HEADS = 40, 4
"""Attention heads of the 14B transformers and of the Tiny ones."""

TEXT_ENCODER_PARAMETERS = 5.68e9
"""umT5-XXL's encoder, 11.4 GB in bfloat16."""
IMAGE_ENCODER_PARAMETERS = 0.63e9
VAE_PARAMETERS = 0.127e9
RELEASED_BYTES = {
    model_parts.TOKENIZER: 0.02e9,
    model_parts.TEXT_ENCODER: 11.4e9,
    model_parts.VAE: 0.51e9,
    model_parts.IMAGE_ENCODER: 4.8e9,
}
"""Bytes of the parts that are released alike for all models."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One transformer. Defaults are those of Wan's 14B models (`wan/configs`)."""

    image_input: bool
    """Cross-attention also to CLIP's tokens (Wan2.1)."""
    width: int = 5120
    mlp: int = 13824
    layers: int = 40

    @property
    def block_parameters(self) -> int:
        d, f = self.width, self.mlp
        attention = 8 * d * d + 8 * d + 4 * d  # q, k, v, o twice; the norms of q and k
        image = 2 * d * d + 2 * d + d if self.image_input else 0  # k and v for CLIP's tokens
        return attention + image + 2 * d * f + f + d + 2 * d + 6 * d  # MLP, norm, modulation

    @property
    def block_linears(self) -> int:
        """Weights of a block's linear layers, without biases."""
        d, f = self.width, self.mlp
        return (10 if self.image_input else 8) * d * d + 2 * d * f

    @property
    def parameters(self) -> int:
        d = self.width
        embeddings = (4096 * d + d) + (d * d + d) + (256 * d + d) + (d * d + d) + 6 * (d * d + d)
        patches = (36 * 4 * d + d) + (d * 64 + 64 + 2 * d)
        image = 1280 * 2 + 1280 * 1280 + 1280 + 1280 * d + d + 2 * d if self.image_input else 0
        return self.layers * self.block_parameters + embeddings + patches + image

    def lora_parameters(self, rank: int, targets: Iterable[str]) -> int:
        """Number of parameters of adapters on the layers whose names end with `targets`, as the
        trainer matches them."""
        d, f = self.width, self.mlp
        shapes = {
            f"{attention}.{name}": (d, d)
            for attention in ("self_attn", "cross_attn")
            for name in ("q", "k", "v", "o")
        }
        shapes |= {"ffn.0": (d, f), "ffn.2": (f, d)}
        if self.image_input:
            shapes |= {"cross_attn.k_img": (d, d), "cross_attn.v_img": (d, d)}
        endings = tuple(targets)
        matched = (
            sum(shape)
            for name, shape in shapes.items()
            if any(name == end or name.endswith(f".{end}") for end in endings)
        )
        return self.layers * rank * sum(matched)

    def linear_flops(self, tokens: int) -> float:
        """FLOPs of all linear layers in one forward pass."""
        d, f = self.width, self.mlp
        context = TEXT_TOKENS + (IMAGE_TOKENS if self.image_input else 0)
        return self.layers * ((12 * d * d + 4 * d * f) * tokens + 4 * d * d * context)

    def attention_flops(self, tokens: int) -> float:
        """FLOPs of self- and cross-attention in one forward pass of one clip."""
        context = TEXT_TOKENS + (IMAGE_TOKENS if self.image_input else 0)
        return self.layers * 4.0 * tokens * (tokens + context) * self.width

    def activation_bytes(self, tokens: int) -> float:
        """One bfloat16 activation of the transformer's width: the unit u of the memory model."""
        return 2.0 * self.width * tokens


def architecture_of(preset: str) -> Architecture:
    """Architecture of a 14B preset. Raises ValueError for a Tiny one, which fits everywhere."""
    if PRESETS[preset].tiny:
        raise ValueError(f"{preset} needs no plan: the Tiny presets fit everywhere")
    return Architecture(image_input=PRESETS[preset].uses_clip)


def loaded_bytes(preset: str) -> list[float]:
    """Bytes of each of a preset's transformers in bfloat16, as they render: the files may have
    float32."""
    return [2.0 * architecture_of(preset).parameters] * len(PRESETS[preset].experts)


def tokens_of(frames: int, width: int, height: int) -> int:
    """Tokens of a clip. Raises ValueError with the field for a size that Wan cannot hold."""
    if frames < 1 or (frames - 1) % TEMPORAL_STRIDE:
        raise ValueError(f"frames must be 4n+1, not {frames}")
    for name, pixels in (("width", width), ("height", height)):
        if pixels < SPATIAL_STRIDE or pixels % SPATIAL_STRIDE:
            raise ValueError(f"{name} must be a multiple of {SPATIAL_STRIDE}, not {pixels}")
    latent_frames = (frames - 1) // TEMPORAL_STRIDE + 1
    return latent_frames * (width // SPATIAL_STRIDE) * (height // SPATIAL_STRIDE)


def cached_clip_bytes(frames: int, width: int, height: int) -> float:
    """A clip in the latent cache: video, first frame with its mask, and caption, in bfloat16."""
    latent = tokens_of(frames, width, height) * 4
    return 2.0 * (latent * (LATENT_CHANNELS + 20) + TEXT_TOKENS * 4096 + IMAGE_TOKENS * 1280)


def released_bytes(preset: str, names: Iterable[str]) -> float:
    """Parts of a base model as released: transformers in float32, the rest as it comes."""
    transformer = 4.0 * architecture_of(preset).parameters
    return sum(RELEASED_BYTES.get(name, transformer) for name in names)
