"""Mistakes that only a kubelet, a store or a database shows: each has its cause in `kubectl get wan
-o wide`; what is mended goes on, and nothing is deleted for it."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from clips import write_dataset
from conftest import FEW
from mistakes import CAUSE_SECONDS, HEAL_SECONDS, Sheet, filled, mistakes
from stack import Stack


@pytest.fixture(scope="session", autouse=True)
def reference() -> None:
    """In place of the run that other tests compare with: it would compute beside these."""


@pytest.fixture
def values(stack: Stack, namespace: str, dataset: str) -> dict[str, str]:
    """Values of the table's placeholders."""
    authorities = stack.get("-n", namespace, "configmap", "kube-root-ca.crt")
    return {
        "endpoint": stack.endpoint,
        "access_key": stack.access_key,
        "secret_key": stack.secret_key,
        "database_url": stack.database_url,
        "wrong_database_url": re.sub(r"(//[^:]+:)[^@]+@", r"\1wrong@", stack.database_url),
        "authority": authorities["data"]["ca.crt"],
        "clips": dataset,
        "token": uuid.uuid4().hex[:8],
    }


@pytest.mark.alone
def test_the_cause_is_in_the_table_and_what_is_mended_heals(
    stack: Stack, namespace: str, values: dict[str, str], tmp_path: Path
) -> None:
    """Beside no other test: a dozen gateways start at once."""
    write_dataset(tmp_path, FEW)
    sheet = Sheet(stack.kubectl, mistakes("kubelet"), namespace, {}, values)
    sheet.apply(lambda row: row.apply)
    missing = sheet.missing(lambda row: row.says, CAUSE_SECONDS)
    assert "not-the-key" not in "".join(sheet.lines().values()), "never shows a credential"

    rested: set[str] = set()

    def rest() -> None:
        """Suspends the runs that have healed, which would go on beside the others."""
        for row in sheet.rows:
            kind, name = row.read
            if kind == "WanFineTune" and len(sheet.seconds[row.name]) == 2 and name not in rested:
                rested.add(name)
                suspended = '{"spec":{"suspend":true}}'
                stack.kubectl(
                    "-n", namespace, "patch", "wft", name, "--type=merge", "-p", suspended
                )

    for row in sheet.rows:
        for bucket in row.mend_buckets:
            stack.store().make_bucket(bucket_name=filled(bucket, sheet.of(row)))
        for folder in row.mend_clips:
            stack.upload(tmp_path, filled(folder, sheet.of(row)))
    sheet.apply(lambda row: row.mend)
    missing += sheet.missing(lambda row: row.heals, HEAL_SECONDS, rest)
    print(sheet.report())
    assert not missing, "\n".join(missing)
