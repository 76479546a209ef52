"""The chart's alerts and the guide name metrics, labels and values that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.registry import CollectorRegistry

from unit.rendered import Manifest, of_kind, render
from unit.serving.test_orders import service
from wan_operator import kinds
from wan_operator.metrics import Metrics as OperatorMetrics
from wan_runtime.contract.reasons import GatewayReason
from wan_runtime.contract.report import Fault, QueueReport, ServiceReport
from wan_runtime.process.pages import GAUGES
from wan_runtime.serving.gateway.metrics import Metrics as GatewayMetrics
from wan_runtime.serving.gateway.reporter import Reporter
from wan_runtime.serving.worker.status import Status

ON = {"metrics": {"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}}
METRIC = re.compile(r"\b(wan_(?!operator_dev)\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)(=~?)\"([^\"]*)\"")
GUIDE = Path(__file__).parents[2] / "docs" / "concepts.md"
TARGET = ("namespace", "wan_operator_dev_service")
"""Labels that a scrape of a service's pods adds."""


@pytest.fixture(scope="module")
def rules() -> dict[str, Manifest]:
    groups = of_kind(render(ON), "PrometheusRule")["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def samples() -> Iterator[tuple[str, dict[str, str]]]:
    """(name, labels) of what operator, gateways and workers expose."""
    gateway, reporter = GatewayMetrics(), Reporter.__new__(Reporter)
    gateway.answered("GET", "/v1/videos", 500)
    counts = QueueReport(
        queued=1, running=0, predicted_seconds=1, remaining_seconds=0, oldest_seconds=1,
        last_activity_seconds=1,
    )  # fmt: skip
    fault = Fault.of(GatewayReason.NO_API_KEY, "there is none")
    reporter._others = lambda: (fault,)
    reporter._taken = (ServiceReport.model_construct(queue=counts), 0.0)
    queue = CollectorRegistry()
    queue.register(reporter)
    registries = (
        OperatorMetrics().registry, gateway.registry, queue,
        Status("w", service(), 1).registry,
    )  # fmt: skip
    for registry in registries:
        for family in registry.collect():
            yield f"{family.name}{'_total' * (family.type == 'counter')}", {}
            if family.type == "histogram":
                yield f"{family.name}_count", {}
            for sample in family.samples:
                yield sample.name, sample.labels


def test_alerts_are_off_by_default() -> None:
    assert not [each for each in render() if each["kind"] == "PrometheusRule"]
    assert of_kind(render(ON), "PrometheusRule")["metadata"]["labels"]["release"] == "prometheus"


def test_each_kind_has_an_alert_for_resources_that_are_stalled(rules: dict[str, Manifest]) -> None:
    expressions = [rule["expr"] for rule in rules.values()]
    for kind in kinds.KINDS:
        assert f'wan_operator_resources{{kind="{kind}",state="Stalled"}} > 0' in expressions


def test_alerts_ask_for_metrics_that_exist(rules: dict[str, Manifest]) -> None:
    known: dict[str, list[dict[str, str]]] = {}
    for name, labels in samples():
        known.setdefault(name, []).append(labels)
    for alert, rule in rules.items():
        asked = METRIC.findall(rule["expr"])
        assert asked, alert
        for name, selector in asked:
            assert name in known, alert
            for label, operator, value in LABEL.findall(selector):
                if name.startswith("wan_operator_"):
                    continue  # its samples come with its work
                given = {labels[label] for labels in known[name] if label in labels}
                fits = re.compile(value if operator == "=~" else re.escape(value))
                assert any(map(fits.fullmatch, given)), (alert, label, value, given)


def test_alerts_on_services_name_them(rules: dict[str, Manifest]) -> None:
    scraped = render({"metrics": {"podMonitor": {"enabled": True}}})
    monitor = of_kind(scraped, "PodMonitor", "-services")
    assert "wan-operator.dev/service" in monitor["spec"]["podTargetLabels"]
    of_services = {alert: rule for alert, rule in rules.items() if "WanService" in alert}
    assert of_services.keys() == {
        "WanServiceWithoutWorkers", "WanServiceQueueOld", "WanServiceRefusesRequests",
        "WanServiceErrors",
    }  # fmt: skip
    for alert, rule in of_services.items():
        assert f"by ({', '.join(TARGET)}" in rule["expr"], alert
        for label in TARGET:
            assert f"{{{{ $labels.{label} }}}}" in rule["annotations"]["summary"], alert


def test_the_guide_has_every_metric_of_the_operator_and_no_other() -> None:
    families = [each for each in OperatorMetrics().registry.collect() if "wan_" in each.name]
    known = {f"{each.name}{'_total' * (each.type == 'counter')}" for each in families}
    assert set(re.findall(r"wan_operator_(?!dev_)\w+", GUIDE.read_text())) == known


def test_the_guide_has_every_metric_of_steps_and_no_other() -> None:
    assert set(re.findall(r"wan_step_\w+", GUIDE.read_text())) == {
        f"wan_step_{name}" for name in GAUGES
    }
