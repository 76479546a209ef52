"""What every request of a gateway needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.gateway.addresses import PrivateHosts
from wan_runtime.serving.gateway.keys import Keys
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.rates import Rates
from wan_runtime.serving.gateway.reporter import Reporter
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.webhook_secret import WebhookSecret


@dataclass(slots=True)
class Gateway:
    """`app.state.gateway`, from start to stop."""

    service: ServiceSpec
    queue: Queue
    store: Store
    keys: Keys
    owners: Mapping[str, str]
    """Owners of videos by the ids of keys, for those that differ."""
    rates: Rates
    predictor: Predictor
    webhook_secret: WebhookSecret
    private_hosts: PrivateHosts
    """Private receivers of webhooks."""
    reporter: Reporter
