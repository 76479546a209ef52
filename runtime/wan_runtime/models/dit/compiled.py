"""Functions of tokens, for torch's compiler."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from wan_runtime.process.imports import importing

COMPILATIONS = 32
"""Variants, as of ranks of adapters and batch sizes, that one process compiles a function for."""
P = ParamSpec("P")
R = TypeVar("R")


def for_any_tokens(
    function: Callable[Concatenate[Sequence[Tensor], P], R],
) -> Callable[Concatenate[Sequence[Tensor], P], R]:
    """A function compiled at its first call, once for any number of tokens: a video of another size
    costs no compilation. Its first argument are the tensors that have the tokens in their second
    dimension.

    All other sizes are constants of the code. Left to itself, torch makes those that have changed
    once variables too, and code that divides each index by variables is several times slower.
    """
    os.environ.pop("TORCHDYNAMO_DISABLE", None)  # with which every command is started
    with importing():  # torch would do so with its first attribute
        importlib.import_module("torch._dynamo")
    torch._dynamo.config.disable = False
    torch._dynamo.config.recompile_limit = COMPILATIONS
    compiled = torch.compile(function, fullgraph=True, dynamic=False)

    def run(tokens: Sequence[Tensor], /, *args: P.args, **kwargs: P.kwargs) -> R:
        for each in tokens:
            torch._dynamo.mark_dynamic(each, 1)
        return compiled(tokens, *args, **kwargs)

    return run
