"""The host's side of the cluster network, and its removal.

This kernel has no `dummy` device, so the node's address sits on an empty bridge. Pods sit on a
second bridge without masquerading: they reach each other, Services and the node, and nothing
beyond this machine, which keeps tests hermetic. What the host sends to a Service stays here too.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from cluster.layout import NODE_BRIDGE, NODE_IP, POD_BRIDGE, PORTS, SERVICE_CIDR, Layout
from cluster.shell import run

# Changed by us, the kubelet or kube-proxy; `down` puts the old values back.
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_OURS = re.compile(r"\b(KUBE-|WAN-|CNI-)")
_FAMILIES = ("iptables", "ip6tables")


def sysctls() -> dict[str, str]:
    """The present values of the settings that a cluster may change."""
    found = {}
    for name in _SYSCTLS:
        with contextlib.suppress(OSError):
            found[name] = Path("/proc/sys", name).read_text().strip()
    return found


def _set_sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys", name)
    with contextlib.suppress(OSError):
        if path.read_text().strip() != value:
            path.write_text(value)


def links() -> set[str]:
    """Names of all network interfaces."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _rules() -> list[list[str]]:
    """Our own filter rules: a chain each for what comes in, what pods send out, and what the host
    sends."""
    ports = ",".join(str(PORTS[name]) for name in ("kube-apiserver", "kubelet"))
    inside = [["-i", name, "-j", "RETURN"] for name in ("lo", NODE_BRIDGE, POD_BRIDGE)]
    incoming = [
        *inside,
        ["-p", "tcp", "-m", "multiport", "--dports", ports, "-j", "REJECT"],
    ]
    of_pods = [["-i", POD_BRIDGE, "!", "-o", POD_BRIDGE, "-j", "REJECT"]]
    # Once a Service has pods again, kube-proxy takes its refusal out and then puts its translation
    # in, in tables of their own. In between, its address would lead to whatever answers beyond
    # this machine: networks that answer everything, with 404, were seen.
    of_host = [["-d", SERVICE_CIDR, "-j", "REJECT"]]
    chains = {"WAN-INPUT": incoming, "WAN-FORWARD": of_pods, "WAN-OUTPUT": of_host}
    return [["-A", chain, *rule] for chain, rules in chains.items() for rule in rules]


def create(layout: Layout) -> None:
    """Makes bridge, settings and rules; where they stand already it changes nothing."""
    before = layout.state / "sysctl.json"
    if not before.exists():
        before.write_text(json.dumps(sysctls()))
    if NODE_BRIDGE not in links():
        run(["ip", "link", "add", NODE_BRIDGE, "type", "bridge"])
    run(["ip", "address", "replace", f"{NODE_IP}/24", "dev", NODE_BRIDGE])
    run(["ip", "link", "set", NODE_BRIDGE, "up"])
    _set_sysctl("net/ipv4/ip_forward", "1")
    # Without it, the answer of a pod on the same bridge skips the translation of Services.
    _set_sysctl("net/bridge/bridge-nf-call-iptables", "1")
    for name in ("INPUT", "FORWARD", "OUTPUT"):
        chain = f"WAN-{name}"
        wanted = [" ".join(rule) for rule in _rules() if rule[1] == chain]
        shown = run(["iptables", "-w", "-S", chain], check=False)
        if shown.returncode or len(shown.stdout.splitlines()) != len(wanted) + 1:
            run(["iptables", "-w", "-N", chain], check=False)
            run(["iptables", "-w", "-F", chain])
            for rule in _rules():
                if rule[1] == chain:
                    run(["iptables", "-w", *rule])
        if run(["iptables", "-w", "-C", name, "-j", chain], check=False).returncode:
            run(["iptables", "-w", "-I", name, "-j", chain])


def exists() -> bool:
    """Whether the node's address is there; a reboot takes it away."""
    shown = run(["ip", "-o", "-4", "address", "show", "dev", NODE_BRIDGE], check=False)
    return f" {NODE_IP}/" in shown.stdout


def remove(layout: Layout) -> None:
    """Takes away bridges, rules and settings of ours and leaves everybody else's."""
    for name in (POD_BRIDGE, NODE_BRIDGE):
        if name in links():
            run(["ip", "link", "delete", name], check=False)
    for family in _FAMILIES:
        saved = run([f"{family}-save"], check=False).stdout
        if _OURS.search(saved):
            kept = [line for line in saved.splitlines() if not _OURS.search(line)]
            run([f"{family}-restore", "-w"], text="\n".join(kept) + "\n", check=False)
    before = layout.state / "sysctl.json"
    if before.exists():
        for name, value in json.loads(before.read_text()).items():
            _set_sysctl(name, value)
