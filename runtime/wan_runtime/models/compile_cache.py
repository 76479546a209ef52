"""Compiled kernels in a folder that outlives the pod: the next pod compiles nothing anew."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import torch

from wan_runtime.models.imported import CACHE_VARIABLE

log = logging.getLogger(__name__)

VARIABLE = "WAN_COMPILE_CACHE"
"""Folder for kernels. Not set: `compiled` in the folder for base models, if that is set."""
FOLDERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Variables of the folders of torch and Triton, which read them when they compile."""


def use(device: torch.device) -> Path | None:
    """Have torch keep kernels in a folder of its version and this type of GPU; the folder, or None
    where kernels go where they went. Call it before anything is compiled."""
    if device.type != "cuda":
        return None
    given, models = os.environ.get(VARIABLE), os.environ.get(CACHE_VARIABLE)
    if not given and not models:
        return None
    kind = f"{torch.__version__}-{torch.cuda.get_device_name(device)}"
    home = Path(given) if given else Path(str(models), "compiled")
    folder = home / re.sub(r"[^A-Za-z0-9.]+", "-", kind)
    try:
        for name in FOLDERS.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
            if not os.access(folder / name, os.W_OK):
                raise PermissionError(None, "may not be written to")
    except OSError as error:
        log.warning("compiled kernels are not kept in %s: %s", folder, error.strerror)
        return None
    os.environ |= {variable: str(folder / name) for variable, name in FOLDERS.items()}
    return folder
