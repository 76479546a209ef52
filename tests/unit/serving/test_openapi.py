"""The API's own description, tried out at random by Schemathesis: no request ends in an error that
is not of the closed list."""

from __future__ import annotations

import httpx

from api_cases import Way, try_out
from running_gateway import KEYS, RunningGateway

pytest_plugins = ["gateway_fixtures"]


def test_every_answer_is_as_described(gateway: RunningGateway) -> None:
    """A share of `make fuzz-api`."""
    tried = try_out(gateway.url, KEYS["app"], 6)
    assert not tried.faults
    ways = {label.rpartition(" ")[0] for label in tried.statuses}
    assert ways == {*Way}


def test_the_description_names_the_errors(gateway: RunningGateway, http: httpx.Client) -> None:
    found = http.get("/openapi.json").json()
    create = found["paths"]["/v1/videos"]["post"]
    kinds = {"application/json", "multipart/form-data", "application/x-www-form-urlencoded"}
    assert set(create["requestBody"]["content"]) == kinds
    assert "Problem" in found["components"]["schemas"]
    for path in found["paths"].values():
        for operation in path.values():
            assert "401" in operation["responses"]
            assert operation["security"]


def test_generated_clients_have_names_to_type(http: httpx.Client) -> None:
    """FastAPI puts modules, or Input and Output, into names that two models share."""
    found = http.get("/openapi.json").json()
    names = set(found["components"]["schemas"])
    assert {"Video", "Page", "Model", "Problem", "Adapter", "Remix"} <= names
    assert [name for name in names if not name.isalpha()] == []
