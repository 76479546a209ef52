"""Ranks that share this process's imports: forked, over gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ports import free_port
from wan_runtime.contract.service import ParallelSpec
from wan_runtime.contract.training import Parallelism
from wan_runtime.errors import classify
from wan_runtime.models.dit.parallel import Ranks, join
from wan_runtime.process import launch

# The first backward starts a thread for each device that has one, and processes that are forked
# after that have no gradients. There are such devices once a test has compiled: so it is here.
torch.autograd.backward(torch.zeros((), requires_grad=True))

LIMIT = 600.0
"""Seconds until an answer must be there."""


def on_ranks(
    world: int, folder: Path, action: Callable[[Ranks], Any], parallel: ParallelSpec | None = None
) -> list[Any]:
    """What an action returns on each rank, in order; an error's reason and text where it raised
    one, and None where its process was killed."""
    return _forked(world, lambda rank: action(join(rank, world, folder / "meet", parallel)))


def in_places(world: int, action: Callable[[int], Any]) -> list[Any]:
    """As `on_ranks`, of an action that meets the other ranks by its environment; from its rank."""
    places = launch.places(Parallelism(gpus_per_node=world))
    if world > 1:  # beside other tests nobody may take the port meanwhile, as nobody does in a pod
        port = str(free_port())
        places = [replace(each, port=port) for each in places]

    def run(rank: int) -> Any:
        os.environ |= places[rank].environment()
        return action(rank)

    return _forked(world, run)


def _forked(world: int, run: Callable[[int], Any]) -> list[Any]:
    context = multiprocessing.get_context("fork")
    processes, receivers = [], []
    for rank in range(world):
        receiver, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=_rank, args=(rank, run, sender)))
        receivers.append(receiver)
        processes[-1].start()
        sender.close()  # or another process had it, and the end of this one would not close it
    try:
        assert all(receiver.poll(LIMIT) for receiver in receivers), "a rank does not answer"
        return [_answer(receiver) for receiver in receivers]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _answer(receiver: Any) -> Any:
    try:
        return pickle.loads(receiver.recv_bytes())
    except EOFError:
        return None


def _rank(rank: int, run: Callable[[int], Any], sender: Any) -> None:
    try:
        answer = run(rank)
    except Exception as error:
        found = classify(error)
        answer = f"{found.reason}: {found.message}"
    # By value: torch would leave tensors in memory that ends with this process.
    sender.send_bytes(pickle.dumps(answer))
    dist.barrier()
