"""Compares what two checkouts make of the same job files and requests, to the bit, on this CPU.

    PYTHONPATH=operator:runtime python tests/same_bits.py OLD NEW [--keep DIR]

OLD and NEW are folders of checkouts. Each runs fine-tunes of the Tiny presets (LoRA and full
weights, stopped and resumed, with previews and samples) by `wan-runtime` and job files, and serves
videos (with and without adapters, by one rank and by two) by its gateway and worker; both start
from the base models that OLD writes, and NEW also resumes a training that OLD began. Exits with 1
and the names of what differs. Takes about six minutes of CPU time; MinIO has to be on PATH.

    ... python tests/same_bits.py OLD OLD.json      # half of it: keep what OLD makes
    ... python tests/same_bits.py OLD.json NEW      # the other half, on the same machine
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from object_store import BUCKET, ObjectStore
from postgres import Postgres
from runtime_process import PRESETS, Checkout, FineTune, Service

FRAMES, WIDTH, HEIGHT, CLIPS = 9, 64, 48, 4
SERVED = "serving"
CROSSED = "full21, resumed by NEW"
# With one thread and without its macroblock tree, x264 gives equal files for equal frames.
ENCODING = {"threads": "1", "mbtree": "0", "crf": "12"}
TRAINING = {
    "steps": 10, "gradientAccumulation": 2, "schedule": "Cosine", "warmupSteps": 2,
    "checkpointEvery": 2, "probeEvery": 5, "previewEvery": 5, "captionDropout": 0.5, "seed": 3,
}  # fmt: skip
LORA = {"rank": 4, "alpha": 8, "learningRate": 3e-3, "dropout": 0.2}
FULL = {"learningRate": 3e-4}
MEAN = {**TRAINING, "emaDecay": 0.9}
# Of this very run, and of the time that it took.
UNEQUAL = {"seconds", "secondsPerStep", "resumedFromStep", "created", "configHash", "inputs",
           "dataset", "sha256", "bytes", "uri", "training"}  # fmt: skip

Digests = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    options = parser.parse_args()
    with ExitStack() as stack:
        name = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(name).resolve()
        database = stack.enter_context(Postgres())
        checkouts = []
        for label in ("old", "new"):
            if getattr(options, label).suffix != ".json":
                (folder / label).mkdir(parents=True)
                store = stack.enter_context(ObjectStore(folder / label / "store"))
                url = database.create(label)
                checkouts.append(Checkout(getattr(options, label), folder / label, store, url))
        models = {preset: folder / preset for preset in PRESETS}
        for preset, model in models.items():
            checkouts[0].run("tiny-model", "--preset", preset, str(model))
        with ThreadPoolExecutor(2) as threads:
            made = list(threads.map(lambda each: everything(each, models), checkouts))
        if options.new.suffix == ".json":
            options.new.write_text(json.dumps(made[0], indent=1, sort_keys=True))
            return 0
        if options.old.suffix == ".json":
            return compared(json.loads(options.old.read_text()), made[0])
        made[1][CROSSED] = crossed(checkouts[0], checkouts[1], models)
        made[0][CROSSED] = made[0]["full21"]
    return compared(*made)


def compared(old: Digests, new: Digests) -> int:
    """Exit code; prints the names of what is not equal."""
    different = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    for name in different:
        where = (
            "" if name in old and name in new else f" (only in {'OLD' if name in old else 'NEW'})"
        )
        print(f"differs: {name}{where}")
    print(f"{len(old)} digests of OLD, {len(new)} of NEW, {len(different)} differ")
    return 1 if different or not old else 0


def everything(checkout: Checkout, models: Mapping[str, Path]) -> Digests:
    """Digests of all that the checkout makes, by name."""
    upload_clips(checkout.store)
    first, second = (fine_tune(checkout, models, preset) for preset in PRESETS)
    first.go("prepare")
    first.go("encode")
    first.interrupt("train", training=MEAN)
    first.go("train", training=MEAN)
    first.go("export")
    first.go("sample")
    full = first.fork("full21", full=FULL, training=TRAINING, formats=["DiffSynth"])
    full.go("train")
    full.go("export")
    second.inputs["prepare"] = first.inputs["prepare"]
    second.go("encode")
    second.go("train", "HighNoise")
    second.go("train", "LowNoise")
    second.go("export")
    second.go("sample")
    second.fork("full22", full=FULL, training={**TRAINING, "steps": 2, "weights": "Best"}).go(
        "train", "LowNoise"
    )
    tuned, tuned_pair = (
        [{"name": "tuned", "artifact": each.inputs["export"]}] for each in (first, second)
    )
    videos = {
        "by two ranks": served(
            checkout, models, PRESETS[0], 2, adapters=tuned, weights=full.inputs["export"]
        ),
        "by one rank": served(checkout, models, PRESETS[1], adapters=tuned_pair),
    }
    made = {
        f"video {name}: {key}": value
        for name, each in videos.items()
        for key, value in each.items()
    }
    found = stored(checkout.store)
    (trained,) = (found[key] for key in found if is_trained(key, "full21"))
    bases = {
        f"base model {path.relative_to(model.parent)}": sha256((path.read_bytes(),))
        for model in models.values()
        for path in sorted(model.rglob("*.safetensors"))
    }
    return {**made, **found, **bases, "full21": trained}


def fine_tune(checkout: Checkout, models: Mapping[str, Path], preset: str) -> FineTune:
    """With a LoRA."""
    job = {
        "model": {"preset": preset, "path": str(models[preset])},
        "dataset": {
            "source": f"s3://{BUCKET}/data",
            "buckets": [{"width": WIDTH, "height": HEIGHT, "frames": FRAMES}],
            "fps": 16,
            "trainFraction": 0.75,
        },
        "lora": LORA,
        "training": {**TRAINING, "steps": 3},
        "sample": {"count": 1, "inferenceSteps": 4},
        "formats": ["DiffSynth", "ComfyUI", "Diffusers"],
    }
    return FineTune(checkout, f"lora{preset[3:6].replace('.', '')}", job)


def crossed(old: Checkout, new: Checkout, models: Mapping[str, Path]) -> str:
    """Digest of what NEW makes of the training full21 that OLD began."""
    run = fine_tune(old, models, PRESETS[0]).fork("crossed", full=FULL, training=TRAINING)
    for step in ("prepare", "encode"):
        run.inputs[step] = old.committed(f"lora21/{step}")
    run.interrupt("train")
    run.checkout = Checkout(new.path, old.folder, old.store, old.database, first=100)
    run.go("train")
    found = stored(old.store)
    (trained,) = (found[key] for key in found if is_trained(key, "crossed"))
    return trained


def is_trained(key: str, run: str) -> bool:
    """Whether a key is of the weights that a run's training committed."""
    return f"/{run}/" in key and "/train/" in key and key.endswith(".safetensors")


def upload_clips(store: ObjectStore) -> None:
    """Smooth colours that drift, of as many recordings as clips."""
    rows = ["video,prompt,source"]
    time, y, x = np.mgrid[: FRAMES + 3, :HEIGHT, :WIDTH].astype(np.float32)
    for number in range(CLIPS):
        red = 128 + 100 * np.sin((x + 4 * time + 20 * number) / 12)
        green = 128 + 100 * np.cos((y + 7 * number) / 9)
        blue = 128 + 80 * np.sin((x + y - 3 * time) / 15 + number)
        data = io.BytesIO()
        with av.open(data, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=16, options=ENCODING)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for frame in np.stack([red, green, blue], axis=-1).astype(np.uint8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        put(store, f"data/clip{number}.mp4", data.getvalue())
        rows.append(f"clip{number}.mp4,a drifting picture {number},recording{number}")
    put(store, "data/metadata.csv", "\n".join(rows).encode())


def put(store: ObjectStore, key: str, data: bytes) -> None:
    store.client().put_object(BUCKET, key, io.BytesIO(data), len(data))


def served(
    checkout: Checkout, models: Mapping[str, Path], preset: str, ranks: int = 1, **change: Any
) -> Digests:
    """Digests of the videos of one service: of the base model, with an adapter whole and weak."""
    service = {
        "model": {"preset": preset, "path": str(models[preset])},
        "sizes": [{"width": WIDTH, "height": HEIGHT}],
        "defaults": {"frames": FRAMES, "steps": 5},
        **change,
    }
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    photo = io.BytesIO()
    Image.fromarray(np.stack([3 * x, 4 * y, x + y], axis=-1).astype(np.uint8)).save(photo, "PNG")
    uses = {
        "base": [],
        "adapter": [{"name": "tuned"}],
        "weak": [{"name": "tuned", "strength": 0.4}],
    }
    with Service(checkout, f"{SERVED}{ranks}-{preset[3:6]}", SERVED, service, ranks) as running:
        return {
            name: film_digest(running.video(photo.getvalue(), seed=7, adapters=adapters))
            for name, adapters in uses.items()
        }


def stored(store: ObjectStore) -> Digests:
    """Digests of the content of all objects, by key; without what depends on time."""
    client = store.client()
    found = {}
    for entry in client.list_objects(BUCKET, recursive=True):
        key = str(entry.object_name)
        if key.startswith(("data/", f"{SERVED}/")) or "/checkpoints/" in key:
            continue
        response = client.get_object(BUCKET, key)
        digest = digest_of(key, response.read())
        response.close()
        if digest is not None:
            found[key] = digest
    return found


def digest_of(key: str, data: bytes) -> str | None:
    """None for a text for people."""
    suffix = Path(key).suffix
    if suffix == ".safetensors":
        return weights_digest(data)
    if suffix == ".mp4":
        return film_digest(data)
    if suffix == ".png":
        return sha256((np.asarray(Image.open(io.BytesIO(data))).tobytes(),))
    if suffix == ".json":
        return sha256((json.dumps(timeless(json.loads(data)), sort_keys=True),))
    return None


def weights_digest(data: bytes) -> str:
    """Of names, types, shapes and values, whatever their order in the file."""
    size = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:size])
    header.pop("__metadata__", None)
    return sha256(
        *(
            (
                name,
                each["dtype"],
                str(each["shape"]),
                data[slice(*(size + at for at in each["data_offsets"]))],
            )
            for name, each in sorted(header.items())
        )
    )


def film_digest(data: bytes) -> str:
    """Of the decoded planes."""
    with av.open(io.BytesIO(data)) as container:
        return sha256(*((frame.to_ndarray().tobytes(),) for frame in container.decode(video=0)))


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: timeless(each) for key, each in value.items() if key.split(".")[-1] not in UNEQUAL
        }
    return [timeless(each) for each in value] if isinstance(value, list) else value


def sha256(*parts: tuple[str | bytes, ...]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for each in part:
            digest.update(each if isinstance(each, bytes) else each.encode())
            digest.update(b"\0")
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
