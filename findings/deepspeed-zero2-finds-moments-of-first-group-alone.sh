#!/usr/bin/env bash
# DeepSpeed 0.19.8, PyTorch 2.15.0, ZeRO 2, AdamW with two parameter groups (as with weight decay on some parameters):
# `safe_get_full_optimizer_state` after a step gives AdamW's moments of the first group's parameters, and raises ValueError
# ("exp_avg not found in optimizer state fragment") for those of every other group, though they have been updated. Under
# ZeRO 3 all are found. Guessed: the documented way to read an optimizer's state reads that of each trained parameter.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check deepspeed==0.19.8 torch==2.15.0 numpy setuptools
cat > "$folder/moments.py" <<'PY'
import os
import sys
from importlib.metadata import version

# One process alone, on a CPU.
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", DS_ACCELERATOR="cpu")
import torch
import torch.distributed as dist

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
import deepspeed
from deepspeed.utils import safe_get_full_optimizer_state

# Else it compiles an op for inference.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
torch.manual_seed(0)
first, second = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
model = torch.nn.Sequential(first, second)
before = second.weight.detach().clone()
groups = [{"params": [*first.parameters()]}, {"params": [*second.parameters()], "weight_decay": 0.0}]
stage = int(sys.argv[1])
config = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_clipping": 1.0,
    "zero_optimization": {"stage": stage},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
optimizer = torch.optim.AdamW(groups, lr=1e-3)
engine, *_ = deepspeed.initialize(
    model=model, optimizer=optimizer, config=config, dist_init_required=False
)
engine.backward(engine(torch.randn(1, 8)).pow(2).mean())
engine.step()
found = {}
for name, parameter in model.named_parameters():
    try:
        found[name] = tuple(safe_get_full_optimizer_state(parameter, "exp_avg").shape)
    except ValueError as error:
        found[name] = f"ValueError: {error}"
print(f"DeepSpeed {version('deepspeed')}, PyTorch {torch.__version__}, ZeRO {stage}: {found}")
lost = [name for name, each in found.items() if isinstance(each, str)]
assert lost == (["1.weight", "1.bias"] if stage == 2 else []), "the behaviour has changed"
if stage == 2:
    assert not torch.equal(before, second.weight), "the second group was not updated"
PY
for stage in 2 3; do
  "$folder/venv/bin/python" -W ignore "$folder/moments.py" $stage 2>&1 | grep -v '^\['
done
