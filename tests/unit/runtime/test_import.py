"""Importing base models: what is verified and what is converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from job_files import make_job
from model_bucket import Bucket, pickle_encoders
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InputError
from wan_runtime.models import imported, importer, layout, load
from wan_runtime.models.layout import ModelFiles
from wan_runtime.process.progress import Reporter
from words import library_words

pytest_plugins = ["ml_fixtures"]


def test_a_release_with_pickles_becomes_verified_safetensors(
    bucket: Bucket, tiny21: ModelFiles, tmp_path: Path
) -> None:
    bucket.upload(pickle_encoders(tiny21, tmp_path / "released"))
    outcome = bucket.go()
    assert "imported" in outcome.message
    assert f"/p/{bucket.name}/models/{outcome.summary['digest']}/" in outcome.manifest.uri
    found = bucket.model(outcome.manifest)
    paths = [found.text_encoder, found.vae, found.image_encoder, *found.dits[layout.Expert.ONLY]]
    assert all(path is not None and path.suffix == ".safetensors" for path in paths)
    for path in paths:
        assert path is not None
        original = load_file(tiny21.folder / path.name)
        made = load_file(path)
        assert made.keys() == original.keys()
        assert all(torch.equal(made[name], original[name]) for name in made)
    load.load_text_encoder(found, torch.float32, torch.device("cpu"))
    model = imported.load(bucket.store, outcome.manifest)
    here = [file.path for file in model.files if f"/{bucket.name}/models/files/" in file.uri]
    assert len(here) == 3, "only what was converted is stored again"
    again = bucket.go()
    assert again.manifest == outcome.manifest
    assert "already imported" in again.message


def test_converted_files_that_were_removed_are_made_again(
    bucket: Bucket, tiny21: ModelFiles, tmp_path: Path
) -> None:
    bucket.upload(pickle_encoders(tiny21, tmp_path / "released"))
    outcome = bucket.go()
    made = [entry.key for entry in bucket.store.list(f"p/{bucket.name}/models/files/")]
    bucket.store.delete(made[:1])
    assert bucket.go().manifest == outcome.manifest
    assert [entry.key for entry in bucket.store.list(f"p/{bucket.name}/models/files/")] == made


@pytest.mark.parametrize("name", ["sources/", "manifest"])
def test_a_damaged_record_of_an_import_is_written_anew(
    bucket: Bucket, tiny21: ModelFiles, name: str
) -> None:
    """An index that was no JSON once ended every later run; one attempt after the other."""
    bucket.upload(tiny21)
    outcome = bucket.go()
    keys = [entry.key for entry in bucket.store.list(f"p/{bucket.name}/models/")]
    (key,) = [key for key in keys if name in key]
    sound = bucket.store.get_bytes(key)
    for text in (b"", b"null", b"<html>", b'{"uri": 7}', b"\xff"):
        bucket.store.put_bytes(key, text)
        again = bucket.go()
        assert again.manifest == outcome.manifest
        assert "imported: " in again.message
        assert bucket.store.get_bytes(key) == sound
    assert "already imported" in bucket.go().message


def test_what_a_library_says_of_weights_is_no_message(
    tiny21: ModelFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Error(s) in loading state_dict for WanModel")

    monkeypatch.setattr(load.ModelPool, "auto_load_model", broken)
    with pytest.raises(InputError) as caught:
        load.load_vae(tiny21, torch.float32, torch.device("cpu"))
    assert caught.value.message.endswith(
        "cannot be loaded, though names and shapes fit: fetch the release again"
    )
    assert str(tiny21.folder) in caught.value.message
    assert not library_words(caught.value.message)
    assert "state_dict" in caplog.text, "the log has it"


def test_a_new_upload_is_imported_anew(bucket: Bucket, tiny21: ModelFiles) -> None:
    bucket.upload(tiny21)
    first = bucket.go()
    tokenizer = tiny21.tokenizer / "tokenizer_config.json"
    changed = tokenizer.read_bytes().replace(b"512", b"511")
    bucket.store.put_bytes(f"{bucket.name}/{layout.TOKENIZER}/{tokenizer.name}", changed)
    second = bucket.go()
    assert second.summary["digest"] != first.summary["digest"]
    with pytest.raises(ArtifactCorrupt, match=r"tokenizer_config.json has .* expected"):
        bucket.model(first.manifest)
    assert bucket.model(second.manifest, "other").tokenizer.is_dir()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("s3://wan/nothing/here", "there is nothing below s3://wan/nothing/here"),
        (
            "https://example.com/weights",
            "model.source https://example.com/weights is not s3://bucket/folder",
        ),
    ],
)
def test_a_source_that_holds_nothing_is_refused(store: Store, source: str, text: str) -> None:
    job = make_job(step=Step.IMPORT, model={"preset": "Wan2.1-I2V-Tiny", "source": source})
    with pytest.raises(InputError, match=text) as caught:
        importer.run(job, store, Path(), Reporter("import", terminal=False))
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


def test_folder_markers_and_names_that_lead_elsewhere_are_no_files(
    bucket: Bucket, tiny21: ModelFiles
) -> None:
    bucket.upload(tiny21)
    bucket.store.put_bytes(f"{bucket.name}/{layout.TOKENIZER}/", b"")
    model = imported.load(bucket.store, bucket.go().manifest)
    assert all(not file.path.endswith("/") for file in model.files)


def test_what_is_missing_is_listed(bucket: Bucket, tiny21: ModelFiles) -> None:
    bucket.put(tiny21.vae, "Wan2.1_VAE.safetensors")
    with pytest.raises(InputError, match="missing diffusion_pytorch_model") as caught:
        bucket.go()
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    assert "models_t5_umt5-xxl-enc-bf16.safetensors or" in caught.value.message
    assert "google/umt5-xxl/" in caught.value.message


def test_a_tokenizer_without_its_json_is_refused(bucket: Bucket, tiny21: ModelFiles) -> None:
    """Original umT5 has spiece.model alone; the releases of Wan have both."""
    for path in tiny21.folder.rglob("*"):
        name = path.relative_to(tiny21.folder).as_posix()
        if path.is_file() and not name.endswith("/tokenizer.json"):
            bucket.put(path, name)
    bucket.store.put_bytes(f"{bucket.name}/{layout.TOKENIZER}/spiece.model", b"pieces")
    with pytest.raises(InputError, match=r"missing google/umt5-xxl/tokenizer\.json") as caught:
        bucket.go()
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


def test_another_presets_weights_are_refused_before_any_data_is_read(
    bucket: Bucket, tiny21: ModelFiles, tiny22: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload(tiny21)
    (wrong,) = tiny22.dits[layout.Expert.HIGH_NOISE]
    bucket.put(wrong, "diffusion_pytorch_model.safetensors")
    monkeypatch.setattr(Store, "stream", None)
    with pytest.raises(InputError, match="these are not the released weights") as caught:
        bucket.go()
    assert "this is the transformer of Wan2.2-I2V-Tiny." in caught.value.message
    assert "Set model.preset to Wan2.2-I2V-Tiny, or leave out model.source" in caught.value.message


def test_a_file_that_was_cut_off_is_told(bucket: Bucket, tiny21: ModelFiles) -> None:
    bucket.upload(tiny21)
    data = tiny21.vae.read_bytes()
    bucket.store.put_bytes(f"{bucket.name}/{tiny21.vae.name}", data[:-100])
    with pytest.raises(InputError, match=r"was cut off: it has [0-9,]+ of [0-9,]+ bytes"):
        bucket.go()


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run by unpickling",))


def test_a_pickle_runs_nothing(
    bucket: Bucket, tiny21: ModelFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = pickle_encoders(tiny21, tmp_path / "released")
    torch.save({"weight": torch.zeros(2), "x": Evil()}, files.vae)
    bucket.upload(files)
    with pytest.raises(InputError, match="more than tensors"):
        bucket.go()
    assert "run by" not in capsys.readouterr().out


def test_a_volume_is_verified_and_left_as_it_is(
    ml_store: Store, tiny21: ModelFiles, tmp_path: Path
) -> None:
    files = pickle_encoders(tiny21, tmp_path / "volume")
    before = sorted(files.folder.rglob("*"))
    job = make_job(
        step=Step.IMPORT,
        model={"preset": "Wan2.1-I2V-Tiny", "path": str(files.folder)},
        store={"endpoint": "http://127.0.0.1:1", "bucket": "wan", "prefix": tmp_path.name},
    )
    outcome = importer.run(job, ml_store, tmp_path / "work", Reporter("import", terminal=False))
    assert "verified" in outcome.message
    assert sorted(files.folder.rglob("*")) == before
    torch.save({"weight": torch.zeros(2)}, files.vae)
    with pytest.raises(InputError, match="not the released weights"):
        importer.run(job, ml_store, tmp_path / "work", Reporter("import", terminal=False))
