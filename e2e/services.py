"""One WanInferenceService: what the API server says of it, how to reach it, how to hurt it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from openai import OpenAI

from stack import PATIENCE, ROOT, CommandError, Manifest, Stack, wait_until

EXAMPLE = ROOT / "examples" / "inference-tiny.yaml"
SDK_SCRIPT = ROOT / "examples" / "make_video.py"


def manifest(stack: Stack, namespace: str, name: str, **spec: Any) -> Manifest:
    """The example, but for names and the store's address. `spec`: replaces fields."""
    service: Manifest = yaml.safe_load(EXAMPLE.read_text())
    service["metadata"] |= {"namespace": namespace, "name": name}
    service["spec"]["store"]["endpoint"] = stack.endpoint
    service["spec"] |= spec
    return service


@dataclass(frozen=True)
class Service:
    stack: Stack
    namespace: str
    name: str

    def status(self) -> Manifest:
        path = f"/apis/wan-operator.dev/v1alpha1/namespaces/{self.namespace}/waninferenceservices"
        found: Manifest = self.stack.api(f"{path}/{self.name}").get("status", {})
        return found

    def condition(self, type_: str) -> tuple[str, str]:
        return condition_of(self.status(), type_)

    def wait(self, what: str, check: Any, every: float = 0.5) -> Any:
        return wait_until(check, what=lambda: f"{what}; {self.story()}", every=every)

    def wait_ready(self) -> Manifest:
        """Until its workers take videos; the status then."""

        def serving() -> Manifest | None:
            status = self.status()
            return status if condition_of(status, "Ready") == ("True", "Serving") else None

        found: Manifest = self.wait("ready", serving)
        return found

    def story(self) -> str:
        """What a reader of a failed test wants to know."""
        status = self.status()
        told = {key: status.get(key) for key in ("conditions", "rollout", "ready", "queue")}
        return json.dumps(told, indent=1)

    def pods(self, part: str) -> list[Manifest]:
        """Of the gateway, the workers or the canary; those that go are left out."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        labels = f"wan-operator.dev/service={self.name},app.kubernetes.io/component={part}"
        found = self.stack.api(path, labelSelector=labels)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def gone(self) -> bool:
        """Whether none of its pods is left, or all are going."""
        return not any(self.pods(part) for part in ("gateway", "worker", "canary"))

    def edit(self, **spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        words = ("patch", "wis", self.name, "--type=merge", "-p", patch)
        self.stack.kubectl("-n", self.namespace, *words)

    @contextmanager
    def reached(self) -> Iterator[str]:
        """Its address from here, for as long as it is needed."""
        kubectl = [self.stack.bin / "kubectl", "--kubeconfig", self.stack.kubeconfig]
        words = ["-n", self.namespace, "port-forward", f"service/{self.name}", ":80"]
        with subprocess.Popen(
            [*map(str, kubectl), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as forward:
            try:
                assert forward.stdout is not None
                line = forward.stdout.readline()  # Forwarding from 127.0.0.1:43210 -> 8080
                if "127.0.0.1:" not in line:
                    forward.kill()
                    said = forward.stderr.read() if forward.stderr else ""
                    raise CommandError(f"kubectl port-forward: {line}{said}")
                port = line.split("127.0.0.1:")[1].split()[0]
                yield f"http://127.0.0.1:{port}"
            finally:
                forward.kill()

    @property
    def cluster_url(self) -> str:
        """By the address of its Service, which the embedded cluster's node reaches too."""
        found = self.stack.get("-n", self.namespace, "service", self.name)
        return f"http://{found['spec']['clusterIP']}"

    def client(self) -> OpenAI:
        return sdk(f"{self.cluster_url}/v1", self.stack.api_key)

    def submit(self, picture: Path, prompt: str = "a man talks", **fields: Any) -> str:
        """The id of a video that was accepted."""
        extra = {key: fields.pop(key) for key in ("steps", "seed", "frames") if key in fields}
        with picture.open("rb") as content:
            video = self.client().videos.create(
                prompt=prompt, input_reference=content, extra_body=extra, **fields
            )
        return video.id

    def wait_ended(self, video_id: str) -> Any:
        """The video once it is completed or failed."""
        client, found = self.client(), None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = client.videos.retrieve(video_id)
            if found.status in ("completed", "failed"):
                return found
            time.sleep(0.5)
        raise TimeoutError(f"{video_id} did not end: {found}; {self.story()}")


def condition_of(status: Manifest, type_: str) -> tuple[str, str]:
    """Status and reason of a condition; both empty where there is none."""
    for each in status.get("conditions", []):
        if each["type"] == type_:
            return each["status"], each["reason"]
    return "", ""


@functools.cache
def sdk(url: str, key: str) -> OpenAI:
    """A client that stays. As garbage of a failed test its open socket would be warned of when it
    is collected, and a later test would fail for that."""
    # A gateway that was killed is back within its restart's back-off, one whose database was killed
    # once that has recovered: pauses of up to 8 s, seven minutes in all.
    return OpenAI(base_url=url, api_key=key, max_retries=60)


def make_video(service: Service, url: str, picture: Path, out: Path, model: str = "") -> str:
    """By examples/make_video.py, as an app team would; its words."""
    command: list[str | Path] = [
        sys.executable, SDK_SCRIPT, picture, "", "--url", url, "--key", service.stack.api_key,
        "--out", out, *(("--model", model) if model else ()),
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise CommandError(f"examples/make_video.py: {done.stderr.strip()}")
    return done.stdout
