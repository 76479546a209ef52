"""Wan2.1-I2V-Tiny and Wan2.2-I2V-Tiny: the real architectures at about 10 MB, trained on clips.

They go through every line that a 14B model goes through, on a CPU, in seconds, and their pictures
can be recognised. Their weights are the same bytes on every machine: the VAE and the transformers
lie in `trained/` (tools/tiny_models made them), the text and image encoders come from a seed.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffsynth.configs import MODEL_CONFIGS
from diffsynth.core.loader.file import hash_state_dict_keys
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.models.wan_video_text_encoder import WanTextEncoder
from diffsynth.models.wan_video_vae import VideoVAE_, WanVideoVAE
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wan_runtime.contract.steps import Expert
from wan_runtime.models import layout, tiny_weights
from wan_runtime.presets import Preset

# Shapes: B batch, 3 colours, H and W pixels. CLIP emits 257 tokens (16x16 patches and the class
# token) of 1280.

TEXT_DIM = 64
VOCABULARY = 259
"""Three special tokens and the 256 byte values."""
T5: dict[str, Any] = {
    "vocab": VOCABULARY,
    "dim": TEXT_DIM,
    "dim_attn": TEXT_DIM,
    "dim_ffn": 128,
    "num_heads": 4,
    "num_layers": 2,
    "num_buckets": 32,
    "shared_pos": False,
    "dropout": 0.1,
}
# head_dim 32: RoPE splits it into 12 + 10 + 10 for time, height and width, all even as they must
# be.
DIT21: dict[str, Any] = {
    "has_image_input": True,
    "patch_size": [1, 2, 2],
    "in_dim": 36,
    "dim": 128,
    "ffn_dim": 512,
    "freq_dim": 64,
    "text_dim": TEXT_DIM,
    "out_dim": 16,
    "num_heads": 4,
    "num_layers": 4,
    "eps": 1e-6,
}
DIT22: dict[str, Any] = {**DIT21, "has_image_input": False, "require_clip_embedding": False}
VAE: dict[str, Any] = {"dim": 16, "dim_mult": [1, 2, 3, 3], "z_dim": 16, "num_res_blocks": 1}
"""The released model has dim 96, dim_mult 1, 2, 4, 4 and two residual blocks a stage."""
TRAINED = Path(__file__).with_name("trained")
VAE_FILE = "vae.safetensors"


class TinyVAE(WanVideoVAE):  # type: ignore[misc]
    """Wan's VAE: 8x in space, 4x in time, 16 latent channels. A subclass because WanVideoVAE fixes
    dim at 96.
    """

    def __init__(self) -> None:
        with skip_model_initialization():  # the released size, for nothing
            super().__init__(z_dim=16)
        self.model = VideoVAE_(**VAE).eval().requires_grad_(False)


class TinyImageEncoder(nn.Module):
    """Stands in for CLIP ViT-H/14: the transformer fixes its output at 257 tokens of width 1280."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 14, 14)
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.proj = nn.Linear(8, 1280)

    def encode_image(self, videos: list[Tensor]) -> Tensor:
        """[1, 3, H, W] images in [-1, 1] -> [B, 257, 1280]."""
        images = [
            F.interpolate(video, size=(224, 224), mode="bicubic", align_corners=False)
            for video in videos
        ]
        patches = self.patch(torch.cat(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat(
            [self.cls.expand(patches.shape[0], -1, -1).to(patches.dtype), patches], dim=1
        )
        projected: Tensor = self.proj(tokens)
        return projected


def dit_file(preset: Preset, expert: Expert) -> str:
    """Name of a trained transformer's file."""
    return f"{preset.name}-{expert}.safetensors".lower()


def write(preset: Preset, folder: Path, trained: Path = TRAINED) -> None:
    """Write the model into `folder` in the official layout. Same bytes every time, on every
    machine. `trained` holds the VAE and the preset's transformers.
    """
    for expert in preset.experts:
        state = load_file(trained / dit_file(preset, expert))
        if preset.uses_clip:
            state |= tiny_weights.image_projection_state()
        path = folder / layout.EXPERT_FOLDERS[expert] / "diffusion_pytorch_model.safetensors"
        _write(path, state, torch.bfloat16)
    t5 = tiny_weights.text_encoder_state(WanTextEncoder(**T5))
    _write(folder / layout.TEXT_ENCODER[0], t5, torch.bfloat16)
    # The released file holds the inner model's names; diffsynth's converter adds "model." to them.
    shutil.copyfile(trained / VAE_FILE, folder / layout.VAE[0])
    if preset.uses_clip:
        clip = tiny_weights.image_encoder_state(TinyImageEncoder())
        _write(folder / layout.IMAGE_ENCODER[0], clip, torch.float32)
    _write_tokenizer(folder / layout.TOKENIZER)


@functools.cache
def register() -> None:
    """Make diffsynth know the tiny models, by the hash of their tensors' names and shapes."""
    own = f"{__name__}."
    with skip_model_initialization():
        entries = [
            (
                WanModel(**DIT21),
                "wan_video_dit",
                "diffsynth.models.wan_video_dit.WanModel",
                DIT21,
                None,
            ),
            (
                WanModel(**DIT22),
                "wan_video_dit",
                "diffsynth.models.wan_video_dit.WanModel",
                DIT22,
                None,
            ),
            (
                WanTextEncoder(**T5),
                "wan_video_text_encoder",
                "diffsynth.models.wan_video_text_encoder.WanTextEncoder",
                T5,
                None,
            ),
            (
                TinyVAE().model,
                "wan_video_vae",
                own + TinyVAE.__name__,
                None,
                "diffsynth.utils.state_dict_converters.wan_video_vae.WanVideoVAEStateDictConverter",
            ),
            (
                TinyImageEncoder(),
                "wan_video_image_encoder",
                own + TinyImageEncoder.__name__,
                None,
                None,
            ),
        ]
    # A file that matches two entries would be loaded twice.
    known = {config["model_hash"] for config in MODEL_CONFIGS}
    for model, name, model_class, arguments, converter in entries:
        model_hash = hash_state_dict_keys(model.state_dict())
        if model_hash in known:
            continue
        entry: dict[str, Any] = {
            "model_hash": model_hash,
            "model_name": name,
            "model_class": model_class,
        }
        if arguments is not None:
            entry["extra_kwargs"] = arguments
        if converter is not None:
            entry["state_dict_converter"] = converter
        MODEL_CONFIGS.append(entry)


def _write(path: Path, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        save({name: tensor.to(dtype).contiguous() for name, tensor in sorted(state.items())})
    )


def _write_tokenizer(folder: Path) -> None:
    """Bytes as tokens, in the form that `AutoTokenizer.from_pretrained` reads without a network."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    specials = ["<pad>", "</s>", "<unk>"]
    vocabulary = {token: index for index, token in enumerate(specials)}
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[symbol] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.add_special_tokens(specials)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 512,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
