"""Room on the disk: the node's, and what the scratch volume's limit leaves of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan_runtime.artifacts import space
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import InfrastructureError


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume of 1 MiB."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv(space.SCRATCH_VARIABLE, str(folder))
    monkeypatch.setenv(space.LIMIT_VARIABLE, "1Mi")
    return folder


def test_the_limit_of_the_scratch_volume_counts_what_lies_in_it(scratch: Path) -> None:
    work = scratch / "latents"
    work.mkdir()
    space.require(work, 900_000, "a")
    (work / "a").write_bytes(bytes(500_000))
    space.require(work, 400_000, "b")
    with pytest.raises(
        InfrastructureError, match=r"c needs 600\.0 kB in .*/cache/latents"
    ) as caught:
        space.require(work, 600_000, "c")
    assert caught.value.reason is Reason.DISK_FULL
    (scratch / "b").write_bytes(bytes(1_000_000))
    with pytest.raises(InfrastructureError, match="0 bytes are free there: raise spec"):
        space.require(work, 1, "d")


def test_the_limit_is_of_the_scratch_volume_alone(scratch: Path, tmp_path: Path) -> None:
    space.require(tmp_path, 2_000_000, "a model in the shared cache")
    with pytest.raises(InfrastructureError):
        space.require(tmp_path, 10**18, "what no disk holds")


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("30Gi", 30 * 2**30), ("1.5Ti", 1.5 * 2**40), ("5G", 5e9), ("64k", 64e3), ("1e9", 1e9),
     ("1E", 1e18), ("12345", 12345)],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_reads_them(quantity: str, expected: float) -> None:
    assert space.bytes_of(quantity) == expected


@pytest.mark.parametrize("quantity", ["", "Gi", "5 G", "5Q", "-1"])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="such as 30Gi"):
        space.bytes_of(quantity)
