"""The API's own description, tried out at random by Schemathesis: no request ends in an error that
is not of the closed list."""

from __future__ import annotations

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from running_gateway import KEYS, RunningGateway

pytest_plugins = ["gateway_fixtures"]
QUICK = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
CHECKS = (
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


def test_every_answer_is_as_described(gateway: RunningGateway) -> None:
    headers = {"Authorization": f"Bearer {KEYS['app']}"}
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @QUICK
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=60)

        check()
        tried.append(f"{operation.method} {operation.path}")
    assert len(tried) == len(set(tried)) >= 12


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
