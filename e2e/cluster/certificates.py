"""Keys, certificates and kubeconfigs of one cluster, made with openssl.

They live as long as the state folder. A kubeconfig is written as JSON, which is YAML too: the
standard library has no YAML writer.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cluster.layout import CONTEXT, NODE, NODE_IP, SERVICE_IP, Layout
from cluster.shell import run

_DAYS = "3650"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _authority(pki: Path, name: str) -> None:
    argv = ["openssl", "req", "-x509", *_CURVE, "-days", _DAYS, "-subj", f"/CN=wan-{name}"]
    run([*argv, "-keyout", f"{name}.key", "-out", f"{name}.crt"], cwd=pki)


def _leaf(pki: Path, name: str, subject: str, names: str = "", authority: str = "ca") -> None:
    request = ["openssl", "req", *_CURVE, "-keyout", f"{name}.key", "-subj", subject]
    run([*request, "-out", f"{name}.csr"], cwd=pki)
    extensions = ["extendedKeyUsage=serverAuth,clientAuth", "basicConstraints=critical,CA:FALSE"]
    extensions.append(f"subjectAltName={names or 'DNS:' + name}")
    (pki / f"{name}.ext").write_text("\n".join(extensions) + "\n")
    sign = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-days", _DAYS]
    sign += ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-CAcreateserial"]
    run([*sign, "-extfile", f"{name}.ext", "-out", f"{name}.crt"], cwd=pki)
    (pki / f"{name}.csr").unlink()
    (pki / f"{name}.ext").unlink()


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _kubeconfig(layout: Layout, user: str, target: Path) -> None:
    pki = layout.pki
    cluster = {
        "server": layout.api_url,
        "certificate-authority-data": _encoded(pki / "ca.crt"),
    }
    credentials = {
        "client-certificate-data": _encoded(pki / f"{user}.crt"),
        "client-key-data": _encoded(pki / f"{user}.key"),
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": f"{CONTEXT}-{user}", "user": credentials}],
        "contexts": [
            {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": f"{CONTEXT}-{user}"}}
        ],
    }
    target.touch(mode=0o600)
    target.write_text(json.dumps(config, indent=1) + "\n")


def make(layout: Layout) -> None:
    """Makes everything, once: a marker written last says that the set is whole."""
    pki = layout.pki
    if (pki / "done").exists():
        return
    pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    _authority(pki, "ca")
    _authority(pki, "front-proxy-ca")
    service_names = ["localhost", "kubernetes"]
    service_names += ["kubernetes.default", "kubernetes.default.svc"]
    service_names += ["kubernetes.default.svc.cluster.local"]
    addresses = ["127.0.0.1", SERVICE_IP, NODE_IP]
    sans = [f"DNS:{name}" for name in service_names] + [f"IP:{address}" for address in addresses]
    _leaf(pki, "apiserver", "/CN=kube-apiserver", ",".join(sans))
    _leaf(pki, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    _leaf(pki, "front-proxy", "/CN=front-proxy-client", authority="front-proxy-ca")
    _leaf(pki, "kubelet", f"/O=system:nodes/CN=system:node:{NODE}", f"DNS:{NODE},IP:{NODE_IP}")
    users = {
        "admin": "/O=system:masters/CN=admin",
        "kube-controller-manager": "/CN=system:kube-controller-manager",
        "kube-scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=system:coredns",
        "volumes": "/CN=system:wan-volumes",
        "kwok": "/O=system:masters/CN=kwok",
    }
    for user, subject in users.items():
        _leaf(pki, user, subject)
    for user in ("kubelet", *users):
        _kubeconfig(layout, user, pki / f"{user}.kubeconfig")
    run(["openssl", "genrsa", "-out", "sa.key", "2048"], cwd=pki)
    run(["openssl", "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"], cwd=pki)
    _kubeconfig(layout, "admin", layout.kubeconfig)
    (pki / "done").touch()
