"""The parts of a loaded model, and where their weights are.

Rank 0 has the encoders and the VAE; each rank has the transformers. The text encoder waits in host
memory: it works for a second a clip. So does one transformer of a pair, if both fill the GPU.
"""

from __future__ import annotations

import torch
from torch import nn

from wan_runtime.contract.job import Expert
from wan_runtime.models import load
from wan_runtime.models.digest import files_digest
from wan_runtime.models.dit.attention import use_trainable
from wan_runtime.models.dit.forward import keep_time_embedding_fp32
from wan_runtime.models.dit.parallel import Ranks, share_attention
from wan_runtime.models.encoders import TextEncoder, VideoEncoder
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.offload import Guest

SHARE = 0.6
"""Of the GPU's memory, that resident transformers may take: the rest is for activations."""


class Model:
    """A base model as one rank holds it."""

    def __init__(self, files: ModelFiles, ranks: Ranks, device: torch.device) -> None:
        """Raises InputError(MODEL_INVALID) if diffsynth does not recognise the files; ValueError
        if the ranks cannot share the attention heads."""
        host = torch.device("cpu")
        self.preset, self.ranks, self.device = files.preset, ranks, device
        self.dtype = load.compute_dtype(device)
        self.attention = use_trainable("Auto")  # SageAttention, which it leaves out, is not exact
        shards = [path for expert in files.preset.experts for path in files.dits[expert]]
        self.digest = files_digest(shards, files.verified)
        self.dits: dict[Expert, nn.Module] = {}
        takes_turns = _fills(files, device)
        for expert in files.preset.experts:
            place = host if takes_turns else device
            dit = load.load_dit(files, expert, self.dtype, place)
            keep_time_embedding_fp32(dit)
            share_attention(dit, ranks)
            self.dits[expert] = dit
        self._guests = {
            expert: Guest(dit, device) for expert, dit in self.dits.items() if takes_turns
        }
        self.text: TextEncoder | None = None
        self.video: VideoEncoder | None = None
        if ranks.rank == 0:
            self.text = TextEncoder(files, self.dtype, device, home=host)
            self.video = VideoEncoder(files, self.dtype, device, tiled=False)

    def transformer(self, expert: Expert) -> nn.Module:
        """Of one expert, on the device."""
        if self._guests:
            for other, guest in self._guests.items():
                if other is not expert:  # first: there is room for one
                    guest.leave()
            self._guests[expert].bring()
        return self.dits[expert]


def _fills(files: ModelFiles, device: torch.device) -> bool:
    """Whether the transformers together leave a GPU too little room."""
    if device.type != "cuda" or len(files.preset.experts) == 1:
        return False
    size = sum(path.stat().st_size for shards in files.dits.values() for path in shards)
    return size > SHARE * torch.cuda.mem_get_info(device)[1]
