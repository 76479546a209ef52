"""docs/serving.md names the metrics, request fields and error codes that there are."""

from __future__ import annotations

import re
import time
from pathlib import Path

from prometheus_client import generate_latest

from running_gateway import RunningGateway
from unit.test_descriptions import wrong
from wan_runtime.serving.gateway.other_names import OTHERS
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.problems import Code
from wan_runtime.serving.worker.status import Status

pytest_plugins = ["gateway_fixtures"]

GUIDE = Path(__file__).parents[3] / "docs" / "serving.md"
FAMILY = re.compile(r"^# HELP (wan_\w+) (.*)$", re.MULTILINE)


def test_every_metric_is_explained_and_in_the_guide_and_no_other(gateway: RunningGateway) -> None:
    with gateway.http() as client:
        client.get("/v1/models")  # one answer to be counted
    deadline = time.monotonic() + 60
    while gateway.page("/readyz").status_code != 200:  # before there is a first report
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker = generate_latest(Status("w", gateway.service, 1).registry).decode()
    explained = FAMILY.findall(gateway.page("/metrics").text) + FAMILY.findall(worker)
    # The client library also exposes when counters and histograms were made.
    known = {name: text for name, text in explained if not name.endswith("_created")}
    named = set(re.findall(r"wan_(?:gateway|queue|worker)_\w+", GUIDE.read_text()))
    assert named == known.keys()
    assert wrong(iter(known.items())) == {}


def test_every_field_of_a_request_and_every_error_code_is_in_the_guide() -> None:
    named = set(re.findall(r"`(\w+)`", GUIDE.read_text()))
    assert Ask.model_fields.keys() | OTHERS | set(map(str, Code)) <= named | {"prompt"}
