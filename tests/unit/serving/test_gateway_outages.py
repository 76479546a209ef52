"""What requests get while the database or the store is away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from object_store import ObjectStore
from running_gateway import RunningGateway
from unit.serving.test_gateway import ask, error

pytest_plugins = ["gateway_fixtures"]


def test_the_database_is_gone_for_a_while(
    make_gateway: Callable[..., RunningGateway], own_postgres: Any
) -> None:
    gateway = make_gateway(url=own_postgres.create("videos"), patience=3)
    with gateway.http() as http:
        video = ask(http).json()["id"]
        own_postgres.kill()
        refused = http.get(f"/v1/videos/{video}")
        assert error(refused) == (503, "service_unavailable", None)
        assert refused.headers["Retry-After"]
        assert http.get("/livez").status_code == 200
        assert http.get("/readyz").status_code == 503
        own_postgres.start()
        assert http.get(f"/v1/videos/{video}").json()["status"] == "queued"
        assert http.get("/readyz").status_code == 200


def test_the_store_is_gone(
    make_gateway: Callable[..., RunningGateway], own_store: ObjectStore
) -> None:
    gateway = make_gateway(store=own_store.spec(prefix="serving").model_dump())
    with gateway.http() as http:
        own_store.kill()
        assert error(ask(http)) == (503, "service_unavailable", None)
        assert not http.get("/v1/videos").json()["data"]
        own_store.start()
        assert ask(http).status_code == 200
