#!/usr/bin/env bash
# xfuser 0.7.0 with yunchang 0.6.4, the newest of both and within what xfuser asks for (yunchang>=0.6.0): making an
# xFuserLongContextAttention on a machine with an NVIDIA GPU raises ImportError. Its constructor imports the package `ring`,
# which imports the module for Ascend NPUs whatever the machine has, and that asks yunchang.ring.utils for `update_npu_out`,
# which no release has. Where torch sees no GPU the import is left out, so that tests on CPUs do not find it. Read here from the
# wheels; seen on two H200s with PyTorch 2.11.0. Guessed: the long-context attention of the newest release can be made.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps xfuser==0.7.0 yunchang==0.6.4
"$folder/venv/bin/python" - 2>&1 <<'PY'
import ast
import sysconfig
from pathlib import Path

packages = Path(sysconfig.get_path("purelib"))


def imports(file: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse((packages / file).read_text())):
        if isinstance(node, ast.ImportFrom):
            found.setdefault("." * node.level + (node.module or ""), set()).update(
                each.name for each in node.names
            )
    return found


attention = imports("xfuser/core/long_ctx_attention/hybrid/attn_layer.py")
ring = imports("xfuser/core/long_ctx_attention/ring/__init__.py")
npu = imports("xfuser/core/long_ctx_attention/ring/ring_npu_flash_attn.py")
there = {
    node.name
    for node in ast.parse((packages / "yunchang/ring/utils.py").read_text()).body
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
}
print("the attention imports", attention["xfuser.core.long_ctx_attention.ring"])
print("its package imports", ring[".ring_npu_flash_attn"], "from .ring_npu_flash_attn")
print("that imports", npu["yunchang.ring.utils"], "from yunchang.ring.utils")
missing = npu["yunchang.ring.utils"] - there
print("of which yunchang 0.6.4 lacks", missing)
assert missing == {"update_npu_out"}, "the behaviour has changed"
PY
