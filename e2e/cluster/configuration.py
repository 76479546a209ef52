"""Renders the configuration files of containerd, the kubelet, CNI and CoreDNS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.layout import DOMAIN, NODE_IP, POD_BRIDGE, POD_CIDR, Layout

PAUSE_IMAGE = "localhost/wan/pause:1"

_CONTAINERD = """\
version = 2
root = "{state}/containerd/root"
state = "{state}/containerd/state"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{state}/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE no container may lower its OOM score: runc then dies with
  # "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  # Under our folder, so that `down` finds them.
  netns_mounts_under_state_dir = true
  max_container_log_line_size = 65536
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{state}/config/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "{state}/containerd/opt"
"""

# No cache: a rank that asks for its peer a moment too early would wait for a stale "no".
# Whatever isn't a name of the cluster doesn't exist: a refusal would make libc report a
# temporary failure and try again.
_COREFILE = """\
{domain}:53 in-addr.arpa:53 {{
  bind {address}
  errors
  ready 127.0.0.1:{ready}
  kubernetes {domain} in-addr.arpa {{
    kubeconfig {kubeconfig} {context}
    pods insecure
    ttl 5
  }}
}}
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def _write(path: Path, text: str) -> None:
    """Writes only when the text differs, so that modification times mean something."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _kubelet(layout: Layout) -> dict[str, Any]:
    pki = layout.pki
    state = layout.state
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "port": layout.ports["kubelet"],
        "healthzPort": layout.ports["kubelet-health"],
        "authentication": {
            "x509": {"clientCAFile": str(pki / "ca.crt")},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "clusterDomain": DOMAIN,
        "clusterDNS": [NODE_IP],
        # Empty: pods must not inherit this machine's search domains or name servers.
        "resolvConf": str(layout.config / "resolv.conf"),
        "failSwapOn": False,
        # Lowering a score needs CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        "maxPods": 250,
        "podPidsLimit": 8192,
        "podLogsDir": str(state / "pod-logs"),
        "volumePluginDir": str(state / "volume-plugins"),
        "containerLogMaxSize": "16Mi",
        "containerLogMaxFiles": 3,
        "serializeImagePulls": False,
        # No registry is there to bring an image back, so none is ever collected.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # The disk is shared with the rest of the machine: evict only at the very end.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "evictionPressureTransitionPeriod": "30s",
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "logging": {"flushFrequency": "1s"},
    }


def _cni(layout: Layout) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": POD_BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(layout.state / "cni-addresses"),
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, portmap]}


def write(layout: Layout) -> None:
    """Writes all files; an unchanged one is left alone."""
    config = layout.config
    _write(config / "containerd.toml", _CONTAINERD.format(state=layout.state, pause=PAUSE_IMAGE))
    _write(config / "kubelet.json", json.dumps(_kubelet(layout), indent=1))
    _write(config / "cni" / "10-pods.conflist", json.dumps(_cni(layout), indent=1))
    _write(config / "resolv.conf", "")
    _write(
        config / "Corefile",
        _COREFILE.format(
            domain=DOMAIN,
            address=NODE_IP,
            ready=layout.ports["coredns-ready"],
            kubeconfig=layout.pki / "coredns.kubeconfig",
            context="wan-embedded",
        ),
    )
