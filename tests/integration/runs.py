"""What tests of the CRD share: the repository's examples and the WanFineTunes of one namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from integration.apiserver import ApiServer

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
CRD = CRDS / "wan-operator.dev_wanfinetunes.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("finetune-*.yaml"))
SERVICES = sorted((ROOT / "examples").glob("inference-*.yaml"))
EVALUATIONS = sorted((ROOT / "examples").glob("evaluation-*.yaml"))
INVALID = sorted((ROOT / "examples" / "invalid").glob("*.yaml"))
INVALID_SERVICES = sorted((ROOT / "examples" / "invalid" / "inference").glob("*.yaml"))
INVALID_EVALUATIONS = sorted((ROOT / "examples" / "invalid" / "evaluation").glob("*.yaml"))
GROUP = "/apis/wan-operator.dev/v1alpha1"
Manifest = dict[str, Any]


def load(path: Path) -> Manifest:
    found: Manifest = yaml.safe_load(path.read_text())
    return found


def minimal(name: str = "run", **spec: Any) -> Manifest:
    manifest = load(ROOT / "examples" / "finetune-minimal.yaml")
    manifest["metadata"]["name"] = name
    manifest["spec"] |= spec
    return manifest


class Runs:
    """The WanFineTunes of one namespace, or its resources of another kind."""

    def __init__(self, server: ApiServer, namespace: str, plural: str = "wanfinetunes") -> None:
        self.server = server
        self.namespace = namespace
        self.path = f"{GROUP}/namespaces/{namespace}/{plural}"

    def create(self, manifest: Manifest) -> Manifest:
        found: Manifest = self.server.request("POST", self.path, manifest)
        return found

    def names(self) -> list[str]:
        return [item["metadata"]["name"] for item in self.server.request("GET", self.path)["items"]]

    def patch(self, name: str, body: Manifest, subresource: str = "") -> Manifest:
        found: Manifest = self.server.request(
            "PATCH",
            f"{self.path}/{name}{subresource}",
            body,
            content_type="application/merge-patch+json",
        )
        return found

    def kubectl(self, *arguments: str, **options: Any) -> Any:
        return self.server.kubectl("-n", self.namespace, *arguments, **options)


DEFAULTS = {
    "checkpoint": {"keepLast": 2, "retentionHours": 168},
    "dataset": {
        "columns": {
            "controlVideo": "control_video",
            "firstFrame": "input_image",
            "prompt": "prompt",
            "source": "source",
            "vaceVideo": "vace_video",
            "video": "video",
        },
        "conditioning": "FirstFrame",
        "encodeParallelism": 1,
        "format": "DiffSynth",
        "rejectedClips": "Fail",
        "source": "s3://wan/datasets/demo",
        "split": {"seed": 0, "trainPercent": 90},
        "window": "First",
    },
    "method": {
        "lora": {
            "dropoutPercent": 0,
            "learningRate": 0.0001,
            "rank": 32,
            "targetModules": ["q", "k", "v", "o", "ffn.0", "ffn.2"],
        }
    },
    "model": {"preset": "Wan2.1-I2V-Tiny"},
    "parallelism": {"experts": "Sequential", "gpusPerNode": 1, "nodes": 1},
    "retries": {"infrastructure": 5, "outOfMemory": 0},
    "suspend": False,
    "training": {
        "attention": "Auto",
        "basePrecision": "BF16",
        "batchSize": 1,
        "datasetRepeat": 10,
        "gradientAccumulation": 1,
        "captionDropoutPercent": 0,
        "deterministic": False,
        "gradientCheckpointing": "Auto",
        "lossWeighting": "Uniform",
        "maxGradientNorm": 1,
        "optimizer": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08, "weightDecay": 0.01},
        "schedule": {"type": "Constant", "warmupSteps": 0},
        "seed": 0,
        "tiledVae": False,
        "timestepSampling": "Uniform",
        "weights": "Last",
    },
    "validation": {"everySteps": 50, "samples": 1, "seed": 0},
}


def sent_is_kept(sent: Any, stored: Any) -> bool:
    if isinstance(sent, dict):
        return all(
            key in stored and sent_is_kept(value, stored[key]) for key, value in sent.items()
        )
    if isinstance(sent, list) and isinstance(stored, list):
        return len(sent) == len(stored) and all(map(sent_is_kept, sent, stored))
    return bool(sent == stored)
