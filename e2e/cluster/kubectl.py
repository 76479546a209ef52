"""kubectl against one kubeconfig, and the guard against touching a foreign cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.layout import CONTEXT
from cluster.shell import run
from cluster.toolchain import program


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl with one kubeconfig and nothing from the caller's environment."""

    kubeconfig: Path

    def __call__(
        self, *words: str | Path, text: str | None = None, check: bool = True, timeout: float = 120
    ) -> str:
        """Runs it and returns what it printed."""
        argv = [program("kubectl"), "--kubeconfig", self.kubeconfig, *words]
        env = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", "/")}
        return run(argv, text=text, check=check, timeout=timeout, env=env).stdout

    def get(self, *words: str) -> Any:
        """One object or list as parsed JSON."""
        return json.loads(self("get", *words, "-o", "json"))

    def apply(self, manifest: Path, values: Mapping[str, str] | None = None) -> None:
        """Applies a manifest server-side, with each `${name}` in it replaced."""
        text = manifest.read_text()
        for name, value in (values or {}).items():
            text = text.replace("${" + name + "}", value)
        self(
            "apply", "--server-side", "--force-conflicts", "--field-manager=wan-cluster",
            "-f", "-", text=text,
        )  # fmt: skip


def require_safe(kubeconfig: Path) -> Path:
    """Refuses a kubeconfig that could be somebody's real cluster.

    Tests create, kill and delete; they may do so in the embedded cluster, or in the one that
    `WAN_KUBECONFIG` names on purpose, and nowhere else.
    """
    named = os.environ.get("WAN_KUBECONFIG")
    if named and Path(named).resolve() == kubeconfig.resolve():
        return kubeconfig
    context = Kubectl(kubeconfig)("config", "current-context").strip()
    if context != CONTEXT:
        raise ClusterError(
            f"{kubeconfig} has the context {context!r}, not {CONTEXT!r}; to run against it on "
            f"purpose, set WAN_KUBECONFIG={kubeconfig}"
        )
    return kubeconfig
