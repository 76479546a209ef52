"""CRDs of other projects, as they publish them: from their Go modules, pinned by checksum.

with installed(server, GATEWAY_API.crd("gateway.networking.k8s.io_httproutes")):
    ...
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from integration.apiserver import ApiError, ApiServer
from integration.operator_process import eventually

Raw = dict[str, Any]
PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DOWNLOAD_SECONDS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Module:
    path: str
    version: str
    sum: str
    """As in go.sum."""
    folder: str
    """Of its CRDs."""

    def crd(self, name: str) -> Raw:
        """From the file of this name, downloaded once into Go's cache."""
        words = ("mod", "download", "-json", f"{self.path}@{self.version}")
        done = subprocess.run(
            ["go", *words],
            cwd="/",
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOWORK": "off"},
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
        assert done.returncode == 0, f"go {' '.join(words)}: {done.stdout}{done.stderr}"
        told = json.loads(done.stdout)
        assert told["Sum"] == self.sum, f"{self.path} {self.version} is not what was pinned"
        text = (Path(told["Dir"]) / self.folder / f"{name}.yaml").read_text()
        # One may have 20,000 lines, for which the parser in Python needs ten seconds.
        found: Raw = yaml.load(text, Loader=yaml.CSafeLoader)
        return found


GATEWAY_API = Module(
    path="sigs.k8s.io/gateway-api",
    version="v1.6.3",
    sum="h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
    folder="config/crd/standard",
)
PROMETHEUS_OPERATOR = Module(
    path="github.com/prometheus-operator/prometheus-operator",
    version="v0.85.0",
    sum="h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    folder="example/prometheus-operator-crd",
)
KEDA = Module(
    path="github.com/kedacore/keda/v2",
    version="v2.21.0",
    sum="h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    folder="config/crd/bases",
)

KUEUE = Module(
    path="sigs.k8s.io/kueue",
    version="v0.19.2",
    sum="h1:mPNzr37u0nwI7ikST5QQl5gg6EgtYOAvC9ZbTgywdN8=",
    folder="config/components/crd/bases",
)


@contextmanager
def installed(server: ApiServer, *crds: Raw) -> Iterator[None]:
    """Served within, and gone after: other tests ask what happens without them."""
    for crd in crds:
        server.request("POST", PATH, crd)
    try:
        eventually(lambda: all(serves(server, crd) for crd in crds), "the CRDs to be served")
        yield
    finally:
        for crd in crds:
            server.request("DELETE", f"{PATH}/{crd['metadata']['name']}")
        eventually(lambda: not any(serves(server, crd) for crd in crds), "the CRDs to go")


def serves(server: ApiServer, crd: Raw) -> bool:
    try:
        server.request("GET", path_of(crd))
    except ApiError as error:
        if error.code in (404, 429, 503):
            return False
        raise
    return True


def path_of(crd: Raw, namespace: str = "") -> str:
    """Of its objects, in the version that is stored."""
    spec = crd["spec"]
    version = next(each["name"] for each in spec["versions"] if each["storage"])
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{spec['group']}/{version}{scope}/{spec['names']['plural']}"
