"""The secret of webhooks follows the mounted Secret: one that cannot be used is waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from running_gateway import Hands, RunningGateway
from unit.serving.test_gateway import ask, error
from unit.serving.test_gateway_pages import faulty, quick, reasons
from unit.serving.test_webhooks import SECRET, Receiver, receiver
from wan_runtime.errors import InputError
from wan_runtime.serving.gateway import webhooks
from wan_runtime.serving.webhook_secret import FILE, VARIABLE, WebhookSecret, key_of

__all__ = ["quick", "receiver"]
pytest_plugins = ["gateway_fixtures"]


@pytest.mark.parametrize("text", ["whsec_s3cr3", "whsec_", "whsec_\u00fcber"])
def test_one_that_is_no_base64_ends_a_gateway_that_no_secret_is_mounted_in(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signing with it once ended the loop that sends them, at the first."""
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(InputError, match="goes on with no base64: copy all of it") as refused:
        WebhookSecret.given()
    assert "s3cr3" not in refused.value.message
    monkeypatch.setenv(FILE, "/nowhere/secret")
    waits = WebhookSecret.given()
    fault = waits.fault()
    assert fault is not None
    assert "goes on with no base64" in fault.message
    assert waits.current() is None


@pytest.mark.parametrize("text", ["whsec_MfKQ", " plain\n", "caf\udce9"])
def test_others_are_taken(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`caf\\udce9`: a byte that is no UTF-8, as Python reads it."""
    monkeypatch.setenv(VARIABLE, text)
    assert WebhookSecret.given().current() == text.strip()
    file = tmp_path / "secret"
    file.write_bytes(text.encode(errors="surrogateescape"))
    found = WebhookSecret("", file)
    assert (found.current(), found.fault()) == (text.strip(), None)
    assert key_of(text.strip())


def test_without_one_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, " ")
    found = WebhookSecret.given()
    assert (found.is_set, found.current(), found.fault()) == (False, None, None)


def test_a_gateway_waits_for_it_and_serves_all_else(
    make_gateway: Callable[..., RunningGateway],
    make_hands: Callable[[RunningGateway], Hands],
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "IDLE", 0.02)
    file = tmp_path / "secret"
    file.write_text(SECRET)
    gateway = make_gateway(secret_file=file, webhook_private_hosts=["127.0.0.1"])
    hands = make_hands(gateway)
    with gateway.http() as http:
        assert not faulty(gateway, lambda faults: not faults)
        video = ask(http, webhook_url=receiver.url).json()["id"]
        file.write_text("whsec_Mf")
        [fault] = faulty(gateway, bool)
        assert reasons((fault,)) == ["WebhookSecretInvalid"]
        assert "the key secret of spec.gateway.webhookSecretRef begins with whsec_" in fault.message
        hands.complete(hands.claim())
        refused = ask(http, webhook_url=receiver.url)
        assert error(refused) == (503, "service_unavailable", "webhook_url")
        assert refused.headers["x-should-retry"] == "false"
        assert ask(http).status_code == 200
        assert gateway.page("/readyz").status_code == 200
        assert receiver.got.empty()
        file.write_text(SECRET)
        headers, _ = receiver.next()
        assert headers["webhook-id"].startswith(video)
        assert not faulty(gateway, lambda faults: not faults)
