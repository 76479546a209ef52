"""What is done with the API server's answers, on an API server made of a dict."""

from __future__ import annotations

from typing import Any

import pytest

from wan_operator.errors import PermanentError, TransientError
from wan_operator.kube import Kube

Raw = dict[str, Any]
MINE = {"uid": "mine", "controller": True}


class Server(Kube):
    def __init__(self) -> None:
        self.config_map: Raw | None = None
        self.writes: list[str] = []

    async def _call(self, method: str, path: str, **_: Any) -> Any:
        if method == "GET" or path.endswith("/status"):
            if self.config_map is None:
                raise PermanentError(f"{path} not found", "NotFound")
            return self.config_map
        self.writes.append(f"{method} {path}")
        return {}


def config_map(owner: Raw) -> Raw:
    metadata = {"name": "demo-train", "namespace": "team", "ownerReferences": [owner]}
    return {"kind": "ConfigMap", "metadata": metadata}


async def test_a_strangers_config_map_is_not_taken_over() -> None:
    server = Server()
    server.config_map = {"metadata": {"name": "demo-train"}}
    with pytest.raises(PermanentError, match="ConfigMap named demo-train exists") as told:
        await server.ensure(config_map(MINE))
    assert told.value.reason == "NameConflict"
    assert server.writes == []


async def test_our_own_config_map_is_applied_where_it_differs_and_a_leaving_one_is_awaited() -> (
    None
):
    server = Server()
    await server.ensure(config_map(MINE))
    assert server.writes == ["PATCH /api/v1/namespaces/team/configmaps/demo-train"]
    server.config_map = config_map(MINE) | {"data": {"job.json": "{}"}}
    await server.ensure(config_map(MINE))
    assert len(server.writes) == 1, "it holds what is wanted"
    await server.ensure(config_map(MINE) | {"data": {"job.json": "{1}"}})
    assert len(server.writes) == 2
    server.config_map["metadata"]["deletionTimestamp"] = "now"
    with pytest.raises(TransientError):
        await server.ensure(config_map(MINE))


async def test_the_status_of_what_was_deleted_meanwhile_is_nothing_to_write() -> None:
    metadata = {"name": "demo", "namespace": "team", "resourceVersion": "1"}
    cr = {"kind": "WanFineTune", "metadata": metadata}
    assert await Server().patch_status(cr, {"observedGeneration": 1}) is None
