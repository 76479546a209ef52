"""One bad adapter never takes a service down: the base model and the others are served, requests
that need it are told why, and once its file is mended it is served, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import generate_latest
from safetensors.torch import load_file, save_file

from renders import save_odd
from unit.serving.test_worker_service import commit, pixels
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.report import WorkerReport
from wan_runtime.contract.service import AdapterSpec
from wan_runtime.contract.steps import Expert
from wan_runtime.models.dit.transformer import Transformer
from wan_runtime.rendering.order import State
from worker_service import TIMING, Service

pytest_plugins = ["worker_fixtures"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

Q = "diffusion_model.blocks.0.self_attn.q"


def upload(service: Service, folder: Path) -> tuple[AdapterSpec, ...]:
    """Adapters that are bad in many ways, and a good one."""
    store, prefix = service.store, service.folder.name
    path = folder / "odd.safetensors"
    save_odd(path)
    store.put_file(f"{prefix}/keys", path)
    save_file(
        {f"{Q}.lora_A.weight": torch.ones(2, 4), f"{Q}.lora_B.weight": torch.ones(4, 2)}, path
    )
    store.put_file(f"{prefix}/shapes", path)
    good = load_file(service.folder / "good.safetensors")
    first = next(iter(good))
    save_file({**good, first: torch.full_like(good[first], float("nan"))}, path)
    store.put_file(f"{prefix}/nan", path)
    torch.save({"a": torch.ones(1)}, path)
    store.put_file(f"{prefix}/pickle", path)
    files = {
        name: AdapterSpec(name=name, files={Expert.ONLY: store.uri(f"{prefix}/{name}")})
        for name in ("keys", "shapes", "nan", "pickle", "absent")
    }
    ref = commit(service, "adapter", folder, [path.name])
    store.put_bytes(f"{prefix}/adapter/{path.name}", b"other bytes")
    bucket = AdapterSpec(name="bucket", files={Expert.ONLY: "s3://no-such-bucket/a.safetensors"})
    return (
        *service.spec.adapters,
        *files.values(),
        AdapterSpec(name="digest", artifact=ref),
        bucket,
    )


async def test_a_worker_serves_without_the_adapters_that_are_bad(
    video_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transformer, "compiled", True)  # as on a GPU, so the good one is rendered
    service = video_service.changed(adapters=upload(video_service, tmp_path))
    store, prefix = service.store, service.folder.name
    address = store.uri(prefix)
    async with service.worker(timing=replace(TIMING, rechecks=(0.2, 0.4))) as working:
        pids = working.pids
        (told,) = await service.workers(lambda each: each.ready)
        assert told.adapters == ("good",)
        assert told.startup is not None
        assert "with adapters" in told.startup.parts
        notes = {note.name: note for note in told.adapter_notes}
        assert {name: note.reason for name, note in notes.items()} == {
            "keys": Reason.MODEL_INVALID,
            "shapes": Reason.MODEL_INVALID,
            "nan": Reason.MODEL_INVALID,
            "pickle": Reason.MODEL_INVALID,
            "absent": Reason.MODEL_NOT_FOUND,
            "digest": Reason.MODEL_INVALID,
            "bucket": Reason.STORE_NOT_FOUND,
        }
        said = {
            "keys": f"{address}/keys is no LoRA of DiffSynth, ComfyUI or Diffusers",
            "shapes": f"{address}/shapes has the keys of ComfyUI, but 0 of its 1 layers fit",
            "nan": f"{address}/nan holds NaN or infinity at blocks.0",
            "pickle": f"{address}/pickle is a pickle of PyTorch",
            "absent": f"{address}/absent does not exist",
            "digest": f"{address}/adapter/odd.safetensors has 11 bytes",
            "bucket": "has no bucket 'no-such-bucket'",
        }
        assert all(said[name] in note.message for name, note in notes.items()), notes
        page = generate_latest(working.worker.status.registry).decode()
        assert "wan_worker_adapters_not_ready 7.0" in page
        await service.completed(await service.submit("good"))
        await service.completed(await service.submit())
        for name, code in (("shapes", "adapter_mismatch"), ("absent", "adapter_unavailable")):
            failed = await service.end(await service.submit("good", name))
            assert failed.problem is not None
            assert (failed.state, failed.problem.code) == (State.FAILED, code)
            assert failed.problem.message.startswith(f"adapter {name}: ")
            assert said[name] in failed.problem.message

        for name in ("keys", "absent"):
            store.put_file(f"{prefix}/{name}", service.folder / "good.safetensors")

        def mended(each: WorkerReport) -> bool:
            return {"good", "keys", "absent"} <= set(each.adapters)

        (told,) = await service.workers(mended)
        assert {note.name for note in told.adapter_notes} == {
            "shapes", "nan", "pickle", "digest", "bucket",
        }  # fmt: skip
        good, same, none = [
            pixels(service.video(await service.completed(await service.submit(*names))))
            for names in (("good",), ("absent",), ())
        ]
        np.testing.assert_array_equal(good, same)
        assert np.abs(good.astype(int) - none).max() > 0
        assert working.pids == pids, "nothing was started anew"
