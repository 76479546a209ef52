#!/usr/bin/env bash
# DeepSpeed 0.19.8, PyTorch 2.15.0, ZeRO 3 without a block for precision: of float32 weights each rank keeps its part twice, the
# one that is gathered and the one that AdamW updates, though the code means to share one copy where both are float32 on one
# device: it compares a tensor's `device`, a torch.device, with the device's name, a string, and they are never equal. At 14
# billion parameters on two GPUs that is 29 GB of each. Guessed: 16 bytes a parameter (weight, gradient, two moments), not 20.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deepspeed==0.19.8 torch==2.15.0 numpy setuptools
cat > "$folder/copies.py" <<'PY'
import os
from importlib.metadata import version

# One process alone, on a CPU.
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", DS_ACCELERATOR="cpu")
import torch
import torch.distributed as dist

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
import deepspeed

# Else it compiles an op for inference.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
model = torch.nn.Linear(64, 64)
config = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_clipping": 1.0,
    "zero_optimization": {"stage": 3},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
engine, *_ = deepspeed.initialize(
    model=model,
    optimizer=torch.optim.AdamW(model.parameters()),
    config=config,
    dist_init_required=False,
)
divided = engine.optimizer
gathered, updated = divided.fp16_partitioned_groups_flat[0], divided.fp32_partitioned_groups_flat[0]
print(f"DeepSpeed {version('deepspeed')}, PyTorch {torch.__version__}")
for what, each in (("gathered", gathered), ("updated", updated)):
    print(what, each.dtype, each.device, each.numel(), "numbers at", each.data_ptr())
print("device compared with:", repr(divided.device), "equal:", gathered.device == divided.device)
assert gathered.dtype == updated.dtype == torch.float32 and gathered.device == updated.device
assert gathered.numel() == updated.numel()
assert gathered.data_ptr() != updated.data_ptr(), "the behaviour has changed"
PY
"$folder/venv/bin/python" -W ignore "$folder/copies.py" 2>&1 | grep -v '^\['
