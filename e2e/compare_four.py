"""`make compare-four`: `examples/compare-four.yaml` as it is, from clips to a video by the winner.

Uploads the clips of `pans.py`, applies the example, prints what its resources say until the winner
is served, and leaves a video by the winner and the report in `demo-output/compare-four/`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import yaml

from pans import write_pans, write_picture
from services import Service, make_video
from stack import BUCKET, ROOT, CommandError, Manifest, Stack, status_of, wait_until

NAMESPACE = "wan-four"
EXAMPLE = ROOT / "examples" / "compare-four.yaml"
OUTPUT = ROOT / "demo-output" / "compare-four"
DEADLINE = 2400
"""Seconds until it gives up on the evaluation, or on the service."""
KINDS = {"WanFineTune": "wft", "WanEvaluation": "wev", "WanInferenceService": "wis"}


class Comparison:
    """The resources of the example in a cluster."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.started = stack, time.monotonic()
        self.wanted: list[Manifest] = list(yaml.safe_load_all(EXAMPLE.read_text()))
        self._said: dict[str, list[tuple[str, str]]] = {}

    def say(self, text: str) -> None:
        """A line with the seconds since the start."""
        print(f"{time.monotonic() - self.started:6.0f} s  {text}", flush=True)

    def upload(self) -> None:
        source = self.wanted[0]["spec"]["dataset"]["source"]
        with tempfile.TemporaryDirectory() as folder:
            clips = write_pans(Path(folder))
            self.stack.upload(Path(folder), source.removeprefix(f"s3://{BUCKET}/"))
        self.say(f"{clips} clips uploaded to {source}")

    def apply(self) -> None:
        """As new resources: those of an earlier comparison are finished and would stay so."""
        self.stack.make_namespace(NAMESPACE)
        kinds = ",".join(KINDS.values())
        self.stack.kubectl("-n", NAMESPACE, "delete", kinds, "--all", "--wait")
        for each in self.wanted:
            each["metadata"]["namespace"] = NAMESPACE
        self.started = time.monotonic()
        self.stack.apply(*self.wanted)
        self.say(f"{EXAMPLE.relative_to(ROOT)} applied")

    def wait(self, kind: str, type_: str) -> Manifest:
        """Status of the resource of a kind once a condition of it is true; meanwhile what all
        resources say, when it is for another reason. CommandError if it is stalled."""

        def found() -> Manifest | None:
            for each in self.wanted:
                status = self._status(each)
                name = f"{KINDS[each['kind']]}/{each['metadata']['name']}"
                true = [c for c in status.get("conditions", ()) if c["status"] == "True"]
                reasons = [(c["type"], c["reason"]) for c in true]
                if true and self._said.get(name) != reasons:
                    self._said[name] = reasons
                    first = true[0]
                    self.say(f"{name} {first['type']} {first['reason']}: {first['message']}")
                if each["kind"] != kind:
                    continue
                if stalled := next((c for c in true if c["type"] == "Stalled"), None):
                    raise CommandError(f"{name} {stalled['reason']}: {stalled['message']}")
                if type_ in {c["type"] for c in true}:
                    return status
            return None

        what = f"no {kind} is {type_}: kubectl -n {NAMESPACE} describe {KINDS[kind]}"
        answer: Manifest = wait_until(found, seconds=DEADLINE, what=what, every=2)
        return answer

    def _status(self, resource: Manifest) -> Manifest:
        """Nothing while the API server does not answer."""
        kind, name = f"{resource['kind'].lower()}s", resource["metadata"]["name"]
        path = f"/apis/wan-operator.dev/v1alpha1/namespaces/{NAMESPACE}/{kind}/{name}"
        try:
            status: Manifest = self.stack.api(path).get("status", {})
        except CommandError:
            return {}
        return status

    def fetch(self, compared: Manifest) -> None:
        [step] = [step for step in compared["steps"] if step["name"] == "compare"]
        OUTPUT.mkdir(parents=True, exist_ok=True)
        for name, content in self.stack.committed(step["artifact"]).items():
            (OUTPUT / Path(name).name).write_bytes(content)
        for row in compared["candidates"]:
            self.say(", ".join(f"{key} {value}" for key, value in row.items()))
        self.say(f"{compared['decision']}: {compared['message']}")

    def film(self) -> None:
        [wanted] = [each for each in self.wanted if each["kind"] == "WanInferenceService"]
        service = Service(self.stack, NAMESPACE, wanted["metadata"]["name"])
        picture = OUTPUT / "first-frame.png"
        write_picture(picture)
        with service.reached() as url:
            [effect] = wanted["spec"]["effects"]
            said = make_video(service, url, picture, OUTPUT / "winner.mp4", effect["name"])
        self.say(said.splitlines()[-1])


def main() -> int:
    comparison = Comparison(Stack.ensure(say=lambda text: print(text, flush=True)))
    comparison.upload()
    comparison.apply()
    compared = comparison.wait("WanEvaluation", "Complete")
    comparison.fetch(compared)
    if not compared.get("winner"):
        return 1
    comparison.wait("WanInferenceService", "Ready")
    comparison.film()
    return 0


if __name__ == "__main__":
    sys.exit(status_of(main))
