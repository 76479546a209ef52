"""The Helm chart on a real API server: every object is taken, and the permissions hold."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.apiserver import KUBECTL_SECONDS, ApiServer
from integration.operator_process import eventually, wait_served
from wan_operator.kinds import KINDS

CHART = Path(__file__).parents[2] / "charts" / "wan-operator"
RELEASE = "chart-test"
CRD = "crd/wanfinetunes.wan-operator.dev"


class Helm:
    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [
                Path(os.environ["WAN_BIN"]) / "helm",
                *("--kubeconfig", self.server.kubeconfig, "-n", self.namespace),
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            env={"HOME": str(self.server.folder)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *settings: str) -> str:
        """The notes."""
        words = [word for each in settings for word in ("--set", each)]
        output = self("upgrade", "--install", RELEASE, str(CHART), *words)
        return output.split("NOTES:", 1)[1]

    def may(self, verb: str, resource: str, namespace: str | None = None) -> bool:
        """Whether the operator's account is allowed to. `resource` is in kubectl's words."""
        account = f"system:serviceaccount:{self.namespace}:{RELEASE}-wan-operator"
        where = ("-n", namespace) if namespace else ("-A",)
        words = ("auth", "can-i", verb, *resource.split(), "--as", account, *where)
        return self.server.kubectl(*words, check=False).stdout.strip() == "yes"


@pytest.fixture
def helm(apiserver: ApiServer, namespace: str) -> Iterator[Helm]:
    """A CRD that others applied would belong to no release: helm is told to take it over."""
    for crd in apiserver.kubectl("get", "crd", "-o", "name").stdout.split():
        owner = (
            f"meta.helm.sh/release-name={RELEASE}",
            f"meta.helm.sh/release-namespace={namespace}",
        )
        apiserver.kubectl("label", crd, "app.kubernetes.io/managed-by=Helm", "--overwrite")
        apiserver.kubectl("annotate", crd, *owner, "--overwrite")
    helm = Helm(apiserver, namespace)
    yield helm
    if RELEASE in helm("list", "--short"):
        helm("uninstall", RELEASE)


def test_for_the_cluster(helm: Helm, apiserver: ApiServer) -> None:
    notes = helm.install("metrics.serviceMonitor.enabled=false")
    unset = "must set spec.store for the values that are empty: "
    assert f"{unset}store.endpoint store.bucket store.secretName" in notes
    assert "acts on all namespaces" in notes
    assert f"logs deployment/{RELEASE}-wan-operator" in notes
    wait_served(helm.server, "wan,wft")

    allowed = [
        ("list", "wanfinetunes.wan-operator.dev"),
        ("patch", "wanfinetunes.wan-operator.dev --subresource=status"),
        ("create", "jobs.batch"),
        ("delete", "jobs.batch"),
        ("patch", "configmaps"),
        ("watch", "pods"),
        ("create", "events.events.k8s.io"),
    ]
    # What has just been bound takes effect a moment later.
    eventually(lambda: helm.may(*allowed[0]), "its rights to be in force")
    assert [each for each in allowed if not helm.may(*each)] == []
    denied = [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods --subresource=exec"),
        ("patch", "wanfinetunes.wan-operator.dev"),
        ("delete", "wanfinetunes.wan-operator.dev"),
        ("create", "rolebindings.rbac.authorization.k8s.io"),
        ("get", "nodes"),
    ]
    assert [each for each in denied if helm.may(*each)] == []
    lease = f"leases.coordination.k8s.io/{RELEASE}-wan-operator"
    assert helm.may("update", lease, helm.namespace)
    assert not helm.may("update", "leases.coordination.k8s.io/other", helm.namespace)


def test_for_namespaces(helm: Helm, apiserver: ApiServer) -> None:
    team = f"{helm.namespace}-team"
    apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": team}})
    notes = helm.install(
        f"watchNamespaces={{{team}}}",
        "store.endpoint=http://minio:9000",
        "store.bucket=wan",
        "store.secretName=creds",
    )
    assert f"acts on {team}" in notes
    assert "must set spec.store" not in notes
    assert "create secret generic creds" in notes
    eventually(lambda: helm.may("create", "jobs.batch", team), "its rights to be in force")
    assert not helm.may("create", "jobs.batch", "default")
    assert not helm.may("get", "secrets", team)


def test_the_databases_password_is_kept(helm: Helm, apiserver: ApiServer) -> None:
    """As its volume is: over an upgrade, and by a release of the same name."""

    def password() -> str:
        words = ("get", "secret", f"{RELEASE}-wan-operator-db", "-o", "jsonpath={.data.password}")
        return apiserver.kubectl("-n", helm.namespace, *words).stdout

    notes = helm.install("postgresql.enabled=true")
    made = password()
    assert len(made) == 44
    assert f"get secret {RELEASE}-wan-operator-db" in notes
    assert f"@{RELEASE}-wan-operator-db.{helm.namespace}.svc:5432/wan" in notes
    assert "create secret generic wan-database" in notes
    helm.install("postgresql.enabled=true", "database.secretName=queue")
    assert password() == made
    helm("uninstall", RELEASE)
    assert "create secret generic queue" in helm.install(
        "postgresql.enabled=true", "database.secretName=queue"
    )
    assert password() == made


def test_an_uninstall_keeps_the_record_of_runs(helm: Helm, apiserver: ApiServer) -> None:
    notes = helm.install()
    for kind in KINDS.values():
        assert f"{kind.definition.plural}.wan-operator.dev" in notes
    wait_served(helm.server, "wan,wft")
    example = str(CHART.parents[1] / "examples" / "finetune-minimal.yaml")
    apiserver.kubectl("-n", helm.namespace, "apply", "-f", example)
    helm("uninstall", RELEASE)
    # A CRD on its way out can still be read.
    assert (
        apiserver.kubectl("get", CRD, "-o", "jsonpath={.metadata.deletionTimestamp}").stdout == ""
    )
    assert "minimal" in apiserver.kubectl("-n", helm.namespace, "get", "wft").stdout
    left = apiserver.kubectl("-n", helm.namespace, "get", "deploy,sa,role,svc", "-o", "name")
    assert left.stdout == ""
