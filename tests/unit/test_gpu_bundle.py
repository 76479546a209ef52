"""What is carried to a GPU machine without a network: what is packed, and how it is unpacked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gpu import unpack
from gpu.bundle import HEADER, MIB, SMALL, Piece, deal, names, needed, requirements, tree, written


def test_all_that_pods_need_is_packed_but_what_fits_the_gpus_of_the_machine() -> None:
    wanted, locked = needed("3.12"), requirements()
    assert {"diffsynth", "deepspeed", "fa3-fwd", "nvidia-cudnn-frontend", "xfuser", "pydantic-core",
            "python-multipart", "httpx", "scikit-video"} <= wanted  # fmt: skip
    assert not wanted & {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"}
    assert not wanted & {"kopf", "kubernetes", "pytest", "ruff"}
    assert all("--hash=sha256:" in locked[name] for name in wanted)
    assert locked["zipp"].startswith("zipp==")
    assert names("absl-py\nPyYAML==6.0\n# no package\n -e none\n") == {"absl-py", "pyyaml"}


def test_the_code_is_what_lies_in_the_checkout() -> None:
    paths = tree().files
    assert {"tree/runtime/wan_runtime/presets.py", "tree/tests/gpu/bench.py", "tree/e2e/clips.py",
            "tree/tests/object_store.py"} <= paths.keys()  # fmt: skip
    assert not [path for path in paths if "/unit/" in path or path.startswith("tree/tests/data")]


def test_the_code_comes_first_and_what_is_small_before_what_is_large() -> None:
    sizes = {
        Path("large"): 7 * SMALL,
        Path("tree-1"): SMALL + 1,
        Path("small"): SMALL,
        Path("smaller"): 9,
        Path("larger"): 8 * SMALL,
    }
    most = 9 * SMALL
    assert deal(sizes, most) == [
        [Path("tree-1"), Path("small"), Path("smaller")],
        [Path("larger")],
        [Path("large")],
    ]
    assert deal(sizes, 40 * SMALL) == [
        [Path("tree-1"), Path("small"), Path("smaller"), Path("larger"), Path("large")]
    ]
    said = f"larger needs an archive of {(8 * SMALL + 3 * HEADER) / MIB:.1f} MiB: see --most"
    with pytest.raises(ValueError, match=said):
        deal(sizes, 8 * SMALL)


def test_what_was_packed_is_unpacked_archive_by_archive(tmp_path: Path) -> None:
    kept, source, into = tmp_path / "pieces", tmp_path / "source", tmp_path / "into"
    kept.mkdir()
    source.mkdir()
    for name, content in (
        ("code", "print(1)"),
        ("package", "x = 1"),
        ("postgres", '#!/bin/sh\necho "$LD_LIBRARY_PATH" "$@"\n'),
    ):
        (source / name).write_text(content)
    (source / "postgres").chmod(0o755)
    program = "postgres/usr/lib/postgresql/15/bin/postgres"
    pieces = [
        Piece("tree", {"tree/runtime/a.py": source / "code"}),
        Piece("site-one", {"site/one/__init__.py": source / "package"}),
        Piece("postgres", {program: source / "postgres"}),
    ]
    packed = [piece.packed(kept) for piece in pieces]
    stamps = [path.stat().st_mtime_ns for path in packed]
    (source / "package").touch()
    assert [piece.packed(kept) for piece in pieces] == packed
    assert [path.stat().st_mtime_ns for path in packed] == stamps, "what is packed stays"
    most = max(path.stat().st_size for path in packed) + 3 * HEADER
    archives = written(tmp_path, packed, most)
    assert [path.name for path in archives] == [f"wan-gpu-{each}-of-3.tar" for each in (1, 2, 3)]
    assert max(path.stat().st_size for path in archives) <= most

    subprocess.run(["tar", "-xf", archives[0], "unpack.py"], cwd=tmp_path, check=True)
    into.mkdir()
    (into / "tree").mkdir()
    (into / "tree" / "old.py").touch()

    def unpacked(*paths: Path) -> tuple[str, str]:
        command = [sys.executable, str(tmp_path / "unpack.py"), *map(str, paths), "--into", into]
        done = subprocess.run([*command, "--no-multicast"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    said = unpacked(archives[0])[1]
    assert said == "still to come: wan-gpu-2-of-3.tar\nstill to come: wan-gpu-3-of-3.tar\n"
    assert [path.name for path in (into / "tree").iterdir()] == ["runtime"], "old code is gone"
    lines, said = unpacked(*archives[1:])
    assert said == ""
    script = f'{lines}\npython3 -c "import one, a; print(one.x)"; $WAN_POSTGRES/postgres a "b  c"'
    shell = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert shell.stdout == f"1\n1\n{into}/postgres/libraries a b  c\n"
    assert {f"export {name}={value}" for name, value in unpack.NO_MULTICAST.items()} <= {
        *lines.splitlines()
    }
    assert (into / "tmp").stat().st_mode & 0o7777 == 0o1777
