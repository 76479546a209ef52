"""The profile Lossless: the blocks as three functions, and the kernel of their attentions."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from diffusers_peer import SIGMA, random_inputs
from wan_runtime.contract.sampling import AttentionKernel, Profile
from wan_runtime.contract.steps import Expert
from wan_runtime.errors import InputError
from wan_runtime.models.adapters.changes import Changes
from wan_runtime.models.dit import fused, kernels
from wan_runtime.models.dit.compiled import for_any_tokens
from wan_runtime.models.dit.forward import Conditions
from wan_runtime.models.dit.transformer import Choice, Transformer
from wan_runtime.models.layout import ModelFiles
from wan_runtime.models.load import load_dit

pytest_plugins = ["ml_fixtures"]

CPU = torch.device("cpu")


def pair(files: ModelFiles) -> tuple[Transformer, Transformer]:
    expert = files.preset.experts[0]
    return (
        Transformer.load(files, expert, CPU, torch.float32, profile="Exact"),
        Transformer.load(files, expert, CPU, torch.float32, profile="Lossless"),
    )


def lora(transformer: Transformer, rank: int) -> Changes:
    draw = torch.Generator().manual_seed(rank)
    factors = {
        name.removesuffix(".weight"): (
            torch.randn(shape[0], rank, generator=draw) * 0.1,
            torch.randn(rank, shape[1], generator=draw) * 0.1,
        )
        for name, shape in transformer.shapes.items()
        if name.endswith(("attn.q.weight", "attn.k.weight", "attn.v.weight", "ffn.0.weight"))
    }
    return Changes(address="drawn", factors=factors, differences={})


def off(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@torch.no_grad()
@pytest.mark.parametrize("model", ["tiny21", "tiny22"])
def test_both_profiles_compute_the_same(model: str, request: pytest.FixtureRequest) -> None:
    exact, lossless = pair(request.getfixturevalue(model))
    noisy, conditions = random_inputs(clip=model == "tiny21")
    plain = exact.begin(conditions).velocity(noisy, SIGMA)
    assert 0 < off(lossless.begin(conditions).velocity(noisy, SIGMA), plain) < 2e-6
    uses = [(lora(exact, 3), 0.7), (lora(exact, 40), -1.0)]
    with exact.adapted(uses), lossless.adapted(uses):
        adapted = exact.begin(conditions).velocity(noisy, SIGMA)
        assert off(adapted, plain) > 0.05
        assert off(lossless.begin(conditions).velocity(noisy, SIGMA), adapted) < 2e-6
    again = lossless.begin(conditions)
    assert torch.equal(again.velocity(noisy, SIGMA), again.velocity(noisy, SIGMA))
    assert off(again.velocity(noisy, SIGMA), plain) < 2e-6


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Graphs that were compiled; without code, which takes a C++ compiler minutes."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    def compile_(part: Any, **options: Any) -> Any:
        return compiler(part, backend=backend, **options)

    compiler = torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # as a command's processes have it
    with torch._dynamo.config.patch(disable=torch._dynamo.config.disable):
        yield graphs
    torch._dynamo.reset()


@torch.no_grad()
def test_sizes_seeds_prompts_and_adapters_compile_nothing_anew(
    tiny21: ModelFiles, compilations: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, lossless = pair(tiny21)
    monkeypatch.setattr(lossless, "_fused", blocks_of(lossless))
    noisy, conditions = random_inputs(clip=True)
    wanted = exact.begin(conditions).velocity(noisy, SIGMA)
    assert off(lossless.begin(conditions).velocity(noisy, SIGMA), wanted) < 2e-6
    assert len(compilations) == 3, "a graph for each part, none broken"
    wide = Conditions(
        conditions.context_BLD + 1,
        conditions.y_BCTHW.repeat(1, 1, 2, 1, 2),
        conditions.clip_BLD,
    )
    lossless.begin(wide).velocity(noisy.repeat(1, 1, 2, 1, 2), SIGMA / 2)
    assert len(compilations) == 3, "another size"
    for rank in (4, 32):
        with lossless.adapted([(lora(lossless, rank), 1.0)]):
            lossless.begin(conditions).velocity(noisy, SIGMA)
            lossless.begin(wide).velocity(noisy.repeat(1, 1, 2, 1, 2), SIGMA)
        assert len(compilations) == 6, "ranks up to 32 share theirs"
    with lossless.adapted([(lora(lossless, 33), 1.0)]):
        lossless.begin(conditions).velocity(noisy, SIGMA)
    assert len(compilations) == 9
    eight_bits = Choice("SDPA", "SDPA", float8=True)
    for noisy_, given in ((noisy, conditions), (noisy.repeat(1, 1, 2, 1, 2), wide)):
        found = lossless.begin(given, choice=eight_bits).velocity(noisy_, SIGMA)
        assert len(compilations) == 12, "the inner blocks' own parts"
        assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    ("device", "profile", "compiled"),
    [("cuda", "Lossless", True), ("cuda", "Exact", False), ("cpu", "Lossless", False)],
)
def test_blocks_are_compiled_on_gpus_but_for_exact(
    device: str, profile: Profile, compiled: bool, tiny21: ModelFiles, compilations: list[Any]
) -> None:
    module = load_dit(tiny21, Expert.ONLY, torch.float32, CPU)
    made = Transformer(module, torch.device(device), torch.float32, profile=profile)
    assert made.compiled is compiled


@torch.no_grad()
def test_only_the_tokens_are_a_variable_of_compiled_code(compilations: list[Any]) -> None:
    run = for_any_tokens(lambda tokens, heads: tokens[0].unflatten(-1, (heads, -1)).amax(-1))
    for count, heads, width in ((10, 4, 8), (12, 4, 8), (10, 8, 16), (14, 8, 16)):
        assert run((torch.ones(1, count, heads * width),), heads).shape == (1, count, heads)
    sizes = [
        node.meta["example_value"].shape
        for graph in compilations
        for node in graph.graph.nodes
        if node.op == "placeholder" and isinstance(node.meta["example_value"], Tensor)
    ]
    assert [(first, int(last)) for first, _, last in sizes] == [(1, 32), (1, 128)]
    assert all(isinstance(count, torch.SymInt) for _, count, _ in sizes)
    assert not any(isinstance(last, torch.SymInt) for *_, last in sizes)


def blocks_of(transformer: Transformer) -> fused.Blocks:
    return fused.Blocks(transformer._module, transformer._attention, compiled=True)


def forget() -> None:
    kernels.pick.cache_clear()
    kernels.try_out.cache_clear()


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """SDPA, one that is faster, and one that is fastest and wrong."""
    seconds = {"SDPA": 1.0, "Fast": 0.5, "Wrong": 0.1}
    found = {
        "SDPA": kernels.sdpa,
        "Fast": lambda q, k, v, heads: kernels.sdpa(q, k, v, heads),
        "Wrong": lambda q, k, v, heads: kernels.sdpa(q, k, v.roll(1, 1), heads),
    }
    names = {id(kernel): name for name, kernel in found.items()}
    monkeypatch.setattr(kernels, "KERNELS", found)
    monkeypatch.setattr(kernels, "available", lambda *_: list(found))
    monkeypatch.setattr(kernels, "_timed", lambda kernel, *_: seconds[names[id(kernel)]])
    forget()
    return seconds


@pytest.mark.parametrize(("fast", "picked"), [(0.5, "Fast"), (0.97, "SDPA"), (2.0, "SDPA")])
def test_the_fastest_right_kernel_is_picked(
    three: dict[str, float], fast: float, picked: str, caplog: pytest.LogCaptureFixture
) -> None:
    three["Fast"] = fast
    with caplog.at_level(logging.WARNING):
        assert kernels.pick(CPU, torch.bfloat16, 4, 64, 32, "Lossless") == picked
    assert "attention kernel Wrong is left out: its error against float32 is" in caplog.text
    forget()


def test_a_named_kernel_is_used_or_refused(
    three: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    three["Fast"] = 2.0
    assert kernels.pick(CPU, torch.bfloat16, 4, 64, 32, "Lossless", "Fast") == "Fast"
    kernels.require("Fast", CPU, torch.bfloat16, 64)
    with pytest.raises(InputError, match="attention: Wrong cannot be used on no GPU: its error"):
        kernels.require("Wrong", CPU, torch.bfloat16, 64)
    monkeypatch.setitem(kernels.KERNELS, "Fast", lambda *_: 1 // 0)
    with pytest.raises(
        InputError, match="Fast cannot be used on no GPU: it fails, as the worker's"
    ):
        kernels.require("Fast", CPU, torch.bfloat16, 64)
    monkeypatch.setattr(kernels, "available", lambda *_: ["SDPA"])
    with pytest.raises(InputError) as refused:
        kernels.require(kernels.FLASH, CPU, torch.float32, 64)
    assert refused.value.message == (
        "acceleration.attention: FlashAttention-3 needs a Hopper GPU (H100, H200) and the package "
        "fa3-fwd, which the CUDA flavour of the runtime image has; this worker has no GPU, and not "
        "the package. Write Auto or SDPA, or choose other GPUs by the nodeSelector of podTemplate"
    )
    forget()


def test_all_kernels_can_be_named() -> None:
    assert set(kernels.KERNELS) == set(get_args(AttentionKernel))
    assert kernels.NEEDS.keys() | {"SDPA"} == kernels.KERNELS.keys()


def test_a_cpu_has_sdpa_alone(tiny22: ModelFiles) -> None:
    assert kernels.available(CPU, torch.float32) == ["SDPA"]
    transformer = Transformer.load(
        tiny22, Expert.HIGH_NOISE, CPU, torch.float32, profile="Lossless"
    )
    noisy, conditions = random_inputs(clip=False)
    transformer.begin(conditions).velocity(noisy, SIGMA)
    assert transformer.at_work.attention == "SDPA"


def test_a_kernel_that_cannot_run_here_is_left_out(
    three: dict[str, float], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Tensor:
        raise RuntimeError("no such width\nand a long trace")

    three["Fast"] = 0.1
    monkeypatch.setitem(kernels.KERNELS, "Fast", fails)
    with caplog.at_level(logging.WARNING):
        assert kernels.pick(CPU, torch.bfloat16, 4, 64, 32, "Lossless") == "SDPA"
    assert "attention kernel Fast is left out: it fails: no such width" in caplog.text
    forget()


ROUNDED = 1.01
"""What a kernel of 8 bits is off by."""


@pytest.fixture
def sage_there(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """SageAttention as it treats what it is given; the options that it got."""
    options: list[dict[str, str]] = []

    def sageattn(q: Tensor, k: Tensor, v: Tensor, **given: str) -> Tensor:
        options.append(given)
        k -= k.mean(1, keepdim=True)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        return ROUNDED * torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    monkeypatch.setitem(
        sys.modules, "sageattention", SimpleNamespace(sageattn=sageattn, __spec__=True)
    )
    return options


def test_sage_leaves_keys_as_they_were(sage_there: list[dict[str, str]]) -> None:
    q, k, v = kernels._drawn(CPU, torch.float32, 24, 4 * 32)
    before = k.clone()
    torch.testing.assert_close(kernels.sage(q, k, v, 4), ROUNDED * kernels.sdpa(q, k, v, 4))
    assert torch.equal(k, before), "keys of the texts are used at each step"
    assert sage_there == [{"tensor_layout": "NHD"}]


@torch.no_grad()
def test_a_named_sage_computes_what_may_lose_bits(
    sage_there: list[dict[str, str]], tiny21: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "available", lambda *_: ["SDPA", kernels.SAGE])
    monkeypatch.setattr(kernels, "_timed", lambda *_: pytest.fail("it is named, whatever its time"))
    balanced = Transformer.load(
        tiny21, Expert.ONLY, CPU, torch.float32, profile="Balanced", kernels=kernels.SAGE
    )
    noisy, conditions = random_inputs(clip=True)
    on = balanced.begin(conditions)
    first = on.velocity(noisy, SIGMA)
    assert on.choice == Choice(kernels.SAGE, "SDPA", float8=False), "keys of texts lose no bits"
    assert len(sage_there) == 3 + len(balanced._module.blocks), "the checks, and each block"
    assert torch.equal(on.velocity(noisy, SIGMA), first), "nothing that is kept was changed"
    monkeypatch.setattr(kernels, "available", lambda *_: ["SDPA"])
    forget()
    assert balanced.choose(conditions, profile="Lossless").attention == "SDPA"
    with pytest.raises(InputError, match="SageAttention needs a GPU and the package sageattention"):
        Transformer.load(
            tiny21, Expert.ONLY, CPU, torch.float32, profile="Fast", kernels=kernels.SAGE
        )
    forget()


@pytest.mark.parametrize(
    ("generation", "there"),
    [
        ((8, 9), ["SDPA", kernels.SAGE]),
        ((9, 0), ["SDPA", kernels.SAGE, "FlashAttention-3", kernels.FLOAT8]),
    ],
)
def test_sage_is_tried_out_where_bits_may_be_lost(
    generation: tuple[int, int], there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: generation)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: name)
    assert kernels.available(torch.device("cuda"), torch.bfloat16) == there
    tried: list[str] = []

    def try_out(name: str, *_: Any) -> kernels.Tried:
        tried.append(name)
        return kernels.Tried(0.1 if name == kernels.SAGE else 1.0, 0.01)

    monkeypatch.setattr(kernels, "try_out", try_out)
    shape = (torch.device("cuda"), torch.bfloat16, 4, 128, 64)
    forget = kernels.pick.cache_clear
    forget()
    assert kernels.pick(*shape, "Lossless") == "SDPA"
    assert kernels.SAGE not in tried
    assert kernels.pick(*shape, "Balanced") == kernels.SAGE
    forget()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A kernel of 8 bits that is fast everywhere; the numbers of keys that it had."""
    keys: list[int] = []

    def rough(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        keys.append(k.shape[1])
        return kernels.sdpa(q, k, v, heads) * 1.03

    monkeypatch.setitem(kernels.KERNELS, kernels.FLOAT8, rough)
    monkeypatch.setattr(kernels, "available", lambda *_: ["SDPA", kernels.FLOAT8])
    monkeypatch.setattr(kernels, "_timed", lambda kernel, *_: 0.1 if kernel is rough else 1.0)
    forget()
    yield keys
    forget()


@torch.no_grad()
def test_a_video_chooses_its_profile(tiny21: ModelFiles, coarse: list[int]) -> None:
    exact, lossless = pair(tiny21)
    balanced = Transformer.load(tiny21, Expert.ONLY, CPU, torch.float32, profile="Balanced")
    noisy, conditions = random_inputs(clip=True)
    plain = lossless.begin(conditions).velocity(noisy, SIGMA)
    assert not coarse
    rough = balanced.begin(conditions).velocity(noisy, SIGMA)
    assert balanced.at_work.attention == kernels.FLOAT8
    assert off(rough, plain) > 1e-4
    tokens = noisy.shape[2] * noisy.shape[3] * noisy.shape[4] // 4
    assert set(coarse) == {*kernels.CHECKED, tokens}, "not the few keys of a text"
    chosen = lossless.begin(conditions, choice=lossless.choose(conditions, profile="Balanced"))
    assert torch.equal(chosen.velocity(noisy, SIGMA), rough)
    chosen = balanced.begin(conditions, choice=balanced.choose(conditions, profile="Lossless"))
    assert torch.equal(chosen.velocity(noisy, SIGMA), plain)
    assert balanced.at_work.attention == "SDPA"
    same = exact.begin(conditions, choice=exact.choose(conditions, profile="Balanced")).velocity(
        noisy, SIGMA
    )
    assert torch.equal(same, exact.begin(conditions).velocity(noisy, SIGMA))


@pytest.mark.parametrize(("factor", "picked"), [(1.03, kernels.FLOAT8), (1.2, "SDPA")])
def test_eight_bits_are_checked_too(
    coarse: list[int], factor: float, picked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rough = kernels.KERNELS[kernels.FLOAT8]
    monkeypatch.setattr(
        kernels, "_timed", lambda kernel, *_: 1.0 if kernel is kernels.sdpa else 0.1
    )
    monkeypatch.setitem(
        kernels.KERNELS, kernels.FLOAT8, lambda *inputs: rough(*inputs) * factor / 1.03
    )
    assert kernels.pick(CPU, torch.float32, 4, 32, 64, "Lossless") == "SDPA"
    assert kernels.pick(CPU, torch.float32, 4, 32, 64, "Balanced") == picked
