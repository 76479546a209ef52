"""A provisioner of local volumes, as a process of the cluster.

Kubernetes ships none that works without a cloud, and charts under test ask for claims. Folders
below the state folder serve as volumes; a deleted claim deletes its folder. It lists once a
second: two small requests, simpler than a watch and as good for one node.
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from cluster.layout import NODE, STORAGE_CLASS, Layout

_PROVISIONER = "wan-operator.dev/local"


class _Api:
    """The few requests needed, over one kept connection."""

    def __init__(self, layout: Layout) -> None:
        context = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        context.load_cert_chain(layout.pki / "volumes.crt", layout.pki / "volumes.key")
        port = layout.ports["kube-apiserver"]
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=context
        )

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; what the server refuses is an OSError, tried again a second later."""
        data = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise OSError(str(error)) from error
        if answer.status not in (200, 201, 202, 404, 409):
            raise OSError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text)


def _volume(name: str, folder: Path, claim: dict[str, Any]) -> dict[str, Any]:
    meta, spec = claim["metadata"], claim["spec"]
    hostname = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {"pv.kubernetes.io/provisioned-by": _PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [hostname]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    }


def _pass(api: _Api, root: Path) -> None:
    claims = api.call("GET", "/api/v1/persistentvolumeclaims")["items"]
    volumes = api.call("GET", "/api/v1/persistentvolumes")["items"]
    ours = {
        item["metadata"]["name"]: item
        for item in volumes
        if item["metadata"].get("annotations", {}).get("pv.kubernetes.io/provisioned-by")
        == _PROVISIONER
    }
    for claim in claims:
        if claim["spec"].get("storageClassName") != STORAGE_CLASS:
            continue
        name = f"pvc-{claim['metadata']['uid']}"
        if claim["status"].get("phase") == "Pending" and name not in ours:
            folder = root / name
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            api.call("POST", "/api/v1/persistentvolumes", _volume(name, folder, claim))
            print(f"made {name} for {claim['metadata']['namespace']}/{claim['metadata']['name']}")
    for name, volume in ours.items():
        if volume["status"].get("phase") in ("Released", "Failed"):
            api.call("DELETE", f"/api/v1/persistentvolumes/{name}")
            shutil.rmtree(root / name, ignore_errors=True)
            print(f"removed {name}")
    sys.stdout.flush()


def serve(layout: Layout) -> None:
    """Provisions until it is stopped."""
    root = layout.state / "volumes"
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o711)
    api = _Api(layout)
    while True:
        try:
            _pass(api, root)
        except OSError as error:
            print(error, flush=True)
        time.sleep(1)
