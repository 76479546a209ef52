"""What each component is started with and how one sees that it works."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.daemon import Daemon
from cluster.errors import ClusterError, tail
from cluster.layout import NODE, NODE_IP, POD_CIDR, SERVICE_CIDR, Layout
from cluster.shell import run, wait_for
from cluster.toolchain import program

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Soft limits of Go's collector: it works harder near the limit and never fails because of it.
_MEMORY = {
    "etcd": "512MiB",
    "kube-apiserver": "1536MiB",
    "kube-controller-manager": "512MiB",
    "kube-scheduler": "512MiB",
}


def _etcd(layout: Layout) -> list[str | Path]:
    client = f"http://127.0.0.1:{layout.ports['etcd']}"
    peer = f"http://127.0.0.1:{layout.ports['etcd-peer']}"
    return [
        program("etcd"),
        "--name=wan",
        f"--data-dir={layout.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=wan={peer}",
        # A test cluster may lose its last second in a power cut; fsync would cost every write.
        "--unsafe-no-fsync",
        "--quota-backend-bytes=2147483648",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--snapshot-count=10000",
        "--log-level=warn",
    ]


def _apiserver(layout: Layout) -> list[str | Path]:
    pki = layout.pki
    argv: list[str | Path] = [
        program("kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{layout.ports['etcd']}",
        f"--secure-port={layout.ports['kube-apiserver']}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--cert-dir={pki / 'apiserver'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        "--event-ttl=2h",
    ]
    if layout.full:
        argv += [
            # All addresses: pods come by the node's, the kubeconfig by loopback. A firewall rule
            # keeps other interfaces out.
            f"--advertise-address={NODE_IP}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        ]
    else:
        argv += [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ]
        if "kube-controller-manager" not in layout.components:
            # Nobody makes the default ServiceAccount, so nobody may ask for it.
            argv.append("--disable-admission-plugins=ServiceAccount")
    return argv


def _controller_manager(layout: Layout) -> list[str | Path]:
    kubeconfig = layout.pki / "kube-controller-manager.kubeconfig"
    # A kubelet that is killed, or has no processor for a while, is no lost node: by default pods
    # count as not ready after 50 s, and Services do not lead to them.
    silent = ["--node-monitor-grace-period=20m"] if layout.full else []
    return [
        program("kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports['kube-controller-manager']}",
        f"--cert-dir={layout.pki / 'kube-controller-manager'}",
        f"--service-account-private-key-file={layout.pki / 'sa.key'}",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={layout.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={layout.pki / 'ca.key'}",
        "--use-service-account-credentials",
        *silent,
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def _scheduler(layout: Layout) -> list[str | Path]:
    kubeconfig = layout.pki / "kube-scheduler.kubeconfig"
    return [
        program("kube-scheduler"),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.ports['kube-scheduler']}",
        f"--cert-dir={layout.pki / 'kube-scheduler'}",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
    ]


def _containerd(layout: Layout) -> list[str | Path]:
    return ["/usr/bin/containerd", "--config", layout.config / "containerd.toml"]


def _kubelet(layout: Layout) -> list[str | Path]:
    return [
        program("kubelet"),
        f"--config={layout.config / 'kubelet.json'}",
        f"--kubeconfig={layout.pki / 'kubelet.kubeconfig'}",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_IP}",
        f"--root-dir={layout.state / 'kubelet'}",
        f"--cert-dir={layout.pki / 'kubelet'}",
        "--node-labels=nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3,nvidia.com/gpu.present=true",
    ]


def _proxy(layout: Layout) -> list[str | Path]:
    return [
        program("kube-proxy"),
        f"--kubeconfig={layout.pki / 'kube-proxy.kubeconfig'}",
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_CIDR}",
        "--nodeport-addresses=primary",
        "--iptables-localhost-nodeports=false",
        f"--metrics-bind-address=127.0.0.1:{layout.ports['kube-proxy']}",
        f"--healthz-bind-address=127.0.0.1:{layout.ports['kube-proxy-health']}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]


def _coredns(layout: Layout) -> list[str | Path]:
    return [program("coredns"), "-conf", layout.config / "Corefile"]


def _volumes(layout: Layout) -> list[str | Path]:
    return [sys.executable, Path(__file__).parent, "serve-volumes", "--state", layout.state]


def _kwok(layout: Layout) -> list[str | Path]:
    return [
        program("kwok"),
        f"--kubeconfig={layout.pki / 'kwok.kubeconfig'}",
        f"--config={Path(__file__).parent / 'manifests' / 'kwok-stages.yaml'}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--cidr=10.100.0.0/16",
        "--node-ip=10.100.0.1",
        "--server-address=",
    ]


def _get(layout: Layout, port: str, path: str, *, plain: bool) -> bool:
    number = layout.ports[port]
    connection: http.client.HTTPConnection
    if plain:
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=10)
    else:
        # Only "does it answer" is asked here, of an address of our own.
        trust = ssl._create_unverified_context()
        if port == "kube-apiserver":
            trust = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
            trust.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")
        connection = http.client.HTTPSConnection("127.0.0.1", number, timeout=10, context=trust)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _http(port: str, path: str, *, plain: bool = False) -> Callable[[Layout], bool]:
    return lambda layout: _get(layout, port, path, plain=plain)


def _containerd_answers(layout: Layout) -> bool:
    asked = run(["ctr", "--address", layout.containerd_socket, "version"], check=False, timeout=60)
    return asked.returncode == 0


@dataclass(frozen=True)
class Kind:
    """How a component is started, when it counts as working, which ports it listens on."""

    argv: Callable[[Layout], list[str | Path]]
    healthy: Callable[[Layout], bool]
    ports: tuple[str, ...] = ()


KINDS = {
    "etcd": Kind(_etcd, _http("etcd", "/health", plain=True), ("etcd", "etcd-peer")),
    "kube-apiserver": Kind(_apiserver, _http("kube-apiserver", "/readyz"), ("kube-apiserver",)),
    "kube-controller-manager": Kind(
        _controller_manager,
        _http("kube-controller-manager", "/healthz"),
        ("kube-controller-manager",),
    ),
    "kube-scheduler": Kind(_scheduler, _http("kube-scheduler", "/healthz"), ("kube-scheduler",)),
    "volumes": Kind(_volumes, lambda layout: True),
    "containerd": Kind(_containerd, _containerd_answers),
    "kubelet": Kind(
        _kubelet, _http("kubelet-health", "/healthz", plain=True), ("kubelet", "kubelet-health")
    ),
    "kube-proxy": Kind(
        _proxy,
        _http("kube-proxy-health", "/livez", plain=True),
        ("kube-proxy", "kube-proxy-health"),
    ),
    "coredns": Kind(_coredns, _http("coredns-ready", "/ready", plain=True), ("coredns-ready",)),
    "kwok": Kind(_kwok, lambda layout: True),
}


def _listener(port: int) -> str | None:
    """Who listens on a TCP port of this machine, in ss's words; None when nobody does."""
    shown = run(["ss", "-Hltnp", f"sport = :{port}"], check=False).stdout.strip()
    return " ".join(shown.split()[3:]) if shown else None


def _require_free(name: str, port: int) -> None:
    """Refuses a port that another process holds.

    A listener without an owner belongs to a killed process whose last threads are still going:
    that is waited for.
    """
    deadline = time.monotonic() + 60
    while holder := _listener(port):
        if "users:" in holder or time.monotonic() > deadline:
            raise ClusterError(f"{name} needs port {port}, which is in use: {holder}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Component:
    """One process of a cluster: what tests stop, start and kill."""

    layout: Layout
    name: str

    @property
    def daemon(self) -> Daemon:
        """The process behind it."""
        return Daemon(self.layout.state / "run" / f"{self.name}.json", self.layout.log(self.name))

    def running(self) -> bool:
        """Whether its process lives."""
        return self.daemon.pid() is not None

    def healthy(self) -> bool:
        """Whether it lives and answers."""
        return self.running() and KINDS[self.name].healthy(self.layout)

    def _mark(self) -> str:
        """A digest of what it is started from: its command line and the files named there."""
        digest = hashlib.sha256()
        for word in map(str, KINDS[self.name].argv(self.layout)):
            if word == sys.executable:  # another interpreter is no reason for a restart
                continue
            digest.update(word.encode() + b"\0")
            named = Path(word.partition("=")[2] or word)
            if named.parent in (self.layout.config, Path(__file__).parent / "manifests"):
                digest.update(named.read_bytes())
        return digest.hexdigest()[:16]

    def stale(self) -> bool:
        """Whether it runs from another program, command line or configuration than today's."""
        return self.running() and self.daemon.mark() != self._mark()

    def launch(self) -> None:
        """Starts the process without waiting for it; nothing happens when it runs already."""
        if self.running():
            return
        for port in KINDS[self.name].ports:
            _require_free(self.name, self.layout.ports[port])
        env = {"PATH": _PATH, "HOME": os.environ.get("HOME", "/root"), "LANG": "C.UTF-8"}
        # Go's collector otherwise runs whenever the heap has doubled: a sixth of the API server.
        env["GOGC"] = "300"
        if self.name in _MEMORY:
            env["GOMEMLIMIT"] = _MEMORY[self.name]
        self.daemon.start(KINDS[self.name].argv(self.layout), env, self._mark())

    def await_healthy(self) -> None:
        """Waits until it answers; a process that ended is reported at once, with its log."""

        def ready() -> bool:
            if not self.running():
                raise ClusterError(f"{self.name} ended; {tail(self.layout.log(self.name))}")
            return KINDS[self.name].healthy(self.layout)

        try:
            wait_for(self.name, ready)
        except ClusterError as error:
            if "last lines" in str(error):
                raise
            raise ClusterError(f"{error}; {tail(self.layout.log(self.name))}") from error

    def start(self) -> None:
        """Starts it and waits until it works."""
        self.launch()
        self.await_healthy()
        if self.name == "kubelet":
            # Late, since node.py needs this module.
            from cluster import node

            node.prepare(self.layout)

    def stop(self, grace: float = 15) -> None:
        """Ends it politely."""
        self.daemon.stop(grace)

    def kill(self) -> None:
        """Ends it by SIGKILL, as a crash would."""
        self.daemon.stop(grace=0)
