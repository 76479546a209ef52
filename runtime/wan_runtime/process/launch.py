"""The processes of a pod that do a step together, and the environment of each.

The names are torchrun's, so `torch.distributed` meets by `init_method="env://"`. A process alone
has none of them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.training import Parallelism
from wan_runtime.errors import InputError

RANK, WORLD_SIZE = "RANK", "WORLD_SIZE"
LOCAL_RANK, LOCAL_WORLD_SIZE = "LOCAL_RANK", "LOCAL_WORLD_SIZE"
MASTER_ADDR, MASTER_PORT = "MASTER_ADDR", "MASTER_PORT"
NAMES = (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT)
NODE_RANK = "JOB_COMPLETION_INDEX"
"""Kubernetes sets it in the pods of an Indexed Job."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one process among those that do a step together."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Number among those of its pod."""
    local_world: int = 1
    address: str = ""
    port: str = ""
    """Where rank 0 listens for the others."""

    @property
    def leads(self) -> bool:
        """Whether it reports for all."""
        return self.rank == 0

    def environment(self) -> dict[str, str]:
        """What it gets beside the pod's own environment; one alone gets nothing."""
        if self == ALONE:
            return {}
        said = (self.rank, self.world, self.local, self.local_world, self.address, self.port)
        return dict(zip(NAMES, map(str, said), strict=True))


ALONE = Place()


def place() -> Place:
    """The place of this process, by its environment."""
    if WORLD_SIZE not in os.environ:
        return ALONE
    rank, world, local, local_world = (int(os.environ[name]) for name in NAMES[:4])
    return Place(rank, world, local, local_world, *(os.environ[name] for name in NAMES[4:]))


def run_folder(folder: Path, local: int | str) -> Path:
    """Where a process of this pod leaves its progress and its Result. That of the first is the
    pod's."""
    return folder / f"local-{local}" if local else folder


def check(parallelism: Parallelism) -> None:
    """Raise InputError(JOB_INVALID) unless this process is one of as many as are to do its step:
    one that knows of no others would do it alone."""
    world = place().world
    if world == parallelism.world:
        return
    places(parallelism)
    raise InputError(
        Reason.JOB_INVALID,
        f"the job is for {parallelism.world} processes, and {WORLD_SIZE} says that there are "
        f"{world}: start it with `wan-runtime`",
    )


def places(parallelism: Parallelism) -> list[Place]:
    """The processes of this pod.

    Raises InputError(JOB_INVALID) where the pod lacks what processes of several nodes meet by.
    """
    if parallelism.world == 1:
        return [ALONE]
    address, port = _meeting(parallelism)
    here = parallelism.gpus_per_node
    first = _node_rank(parallelism) * here
    return [
        Place(first + local, parallelism.world, local, here, address, port) for local in range(here)
    ]


def other_pods(places: Sequence[Place]) -> list[str]:
    """Host names of the pods beside the first, whose places are given."""
    name, dot, domain = places[0].address.partition(".")
    numbers = range(1, places[0].world // len(places))
    # The operator names the pods of a Job by their number on its nodes, the first one's is 0.
    return [f"{name.removesuffix('0')}{number}{dot}{domain}" for number in numbers]


def _meeting(parallelism: Parallelism) -> tuple[str, str]:
    if parallelism.nodes == 1:
        return "127.0.0.1", str(_free_port())
    try:
        return os.environ[MASTER_ADDR], os.environ[MASTER_PORT]
    except KeyError as missing:
        raise InputError(
            Reason.JOB_INVALID,
            f"the step is done on {parallelism.nodes} nodes, and the environment variable "
            f"{missing.args[0]}, by which they meet, is not set",
        ) from None


def _node_rank(parallelism: Parallelism) -> int:
    if parallelism.nodes == 1:
        return 0
    text = os.environ.get(NODE_RANK, "")
    if text.isdecimal() and int(text) < parallelism.nodes:
        return int(text)
    raise InputError(
        Reason.JOB_INVALID,
        f"the environment variable {NODE_RANK} must be the number of this node, from 0 to "
        f"{parallelism.nodes - 1}, not {text!r}",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
