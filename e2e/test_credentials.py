"""Wrong or missing credentials: a named retry reason, healed by correcting the Secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from finetunes import Run
from stack import BUCKET, Stack, wait_until

pytestmark = pytest.mark.timeout(600)


def store(stack: Stack, secret: str) -> dict[str, object]:
    return {
        "endpoint": stack.endpoint,
        "bucket": BUCKET,
        "prefix": "e2e",
        "secretRef": {"name": secret},
    }


def secret(stack: Stack, namespace: str, name: str, access: str, key: str) -> None:
    stack.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"accessKey": access, "secretKey": key},
        }
    )


def test_wrong_credentials_heal(stack: Stack, namespace: str, start: Callable[..., Run]) -> None:
    secret(stack, namespace, "wrong", stack.access_key, "not-the-key")
    run = start("wrong-key", store=store(stack, "wrong"))
    wait_until(
        lambda: run.conditions().get("Reconciling", {}).get("reason") == "StoreAccessDenied",
        seconds=120, what=run.story,
    )  # fmt: skip
    message = run.conditions()["Reconciling"]["message"]
    assert "wrong" in message, "names the Secret"
    assert "not-the-key" not in message, "never shows a credential"
    assert {job["metadata"]["labels"]["wan-operator.dev/step"] for job in run.jobs()} == {"prepare"}

    secret(stack, namespace, "wrong", stack.access_key, stack.secret_key)
    wait_until(lambda: run.step("prepare")["state"] == "Complete", seconds=180, what=run.story)
    assert run.step("prepare")["attempts"] >= 2


def test_missing_secret_is_named(stack: Stack, namespace: str, start: Callable[..., Run]) -> None:
    run = start("no-secret", store=store(stack, "absent"))
    wait_until(
        lambda: run.conditions().get("Reconciling", {}).get("reason") == "SecretNotFound",
        seconds=120, what=run.story,
    )  # fmt: skip
    assert "absent" in run.conditions()["Reconciling"]["message"]

    secret(stack, namespace, "absent", stack.access_key, stack.secret_key)
    wait_until(lambda: run.step("prepare")["state"] == "Complete", seconds=180, what=run.story)
