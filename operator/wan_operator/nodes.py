"""What nodes have free. Looked at only when a rollout is about to begin or waits for room, and then
once for all of them."""

from __future__ import annotations

import asyncio
import time

from wan_operator.errors import PermanentError
from wan_operator.kube import Kube
from wan_operator.reconcile.room import Node, Room, has_gpus, takes_pods

FRESH_SECONDS = 10.0
"""What was read is good for others so long. Within it, pods of a rollout that began are on
nodes."""


class Nodes:
    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._room = Room()
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def room(self) -> Room:
        async with self._reading:
            if time.monotonic() >= self._until:
                self._keep(await self._read())
            return self._room

    def take(self, room: Room) -> None:
        """A rollout begins. Until its pods are there to be seen, others find what it leaves: two
        that a new image replaces at the same moment must not count on the same GPU."""
        self._keep(room)

    def _keep(self, room: Room) -> None:
        self._room, self._until = room, time.monotonic() + FRESH_SECONDS

    async def _read(self) -> Room:
        """A LIST of nodes, and one of pods for each node with GPUs."""
        try:
            nodes = [node async for node in self._kube.list_nodes() if has_gpus(node)]
            found = []
            for node in filter(takes_pods, nodes):
                name = node["metadata"]["name"]
                found.append(Node.read(node, [pod async for pod in self._kube.list_pods_on(name)]))
        except PermanentError as error:
            if error.reason != "Forbidden":
                raise
            return Room(is_known=False)
        found.sort(key=lambda each: each.name)
        return Room(tuple(found), closed=len(nodes) - len(found))
