"""Specs of the resources that make.py lets the operator of commit 6a4b725 reconcile."""

from __future__ import annotations

from typing import Any

from job_files import sized
from object_store import BUCKET
from unit.controller.test_children import RUNS

SMALL = {
    "model": {"preset": "Wan2.2-I2V-Tiny"},
    "experts": ["LowNoise"],
    "dataset": {"source": f"s3://{BUCKET}/clips", "width": 32, "height": 32, "frames": 5,
                "split": {"trainPercent": 50}},
    "method": {"lora": {"rank": 1, "alpha": 2, "learningRate": 1e-3, "targetModules": ["ffn.0"]}},
    "training": {"steps": 3, "schedule": {"type": "Cosine", "warmupSteps": 1}},
    "checkpoint": {"everySteps": 1},
    "validation": {"samples": 0, "everySteps": 10},
}  # fmt: skip
ALL = {
    "model": {"preset": "Wan2.1-I2V-14B-480P", "source": {"s3": "s3://wan/models/480p"}},
    "dataset": {
        "source": "s3://wan/data", "format": "Musubi", "fps": 24, "window": "Spread",
        "windowsPerClip": 3, "encodeParallelism": 2, "rejectedClips": "Skip",
        "split": {"trainPercent": 80, "seed": 5}, "buckets": [sized(832, 480, 49), sized(480, 832)],
    },
    "method": {"lora": {"rank": 8, "alpha": 4, "dropoutPercent": 10, "learningRate": 2e-4,
                        "targetModules": ["q", "v"], "initFrom": {"uri": "s3://wan/before"}}},
    "training": {
        "epochs": 3, "datasetRepeat": 2, "batchSize": 2, "gradientAccumulation": 4,
        "captionDropoutPercent": 10, "ema": {"decay": 0.99}, "weights": "Best", "seed": 11,
        "optimizer": {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-7, "weightDecay": 0.1},
        "schedule": {"type": "Cosine", "warmupSteps": 7}, "maxGradientNorm": 0.5,
        "deterministic": True, "lossWeighting": "Bell", "gradientCheckpointing": "Full",
        "tiledVae": True, "attention": "SDPA",
    },
    "checkpoint": {"everySteps": 20, "keepLast": 3},
    "validation": {"samples": 2, "everySteps": 10, "previewEverySteps": 20, "inferenceSteps": 30,
                   "seed": 4},
    "output": {"formats": ["ComfyUI", "Diffusers"]},
    "retries": {"limit": 2},
}  # fmt: skip
FINETUNES: dict[str, dict[str, Any]] = {
    "lora-2.1": {"validation": {"samples": 1}},
    "full-2.1": {"method": {"full": {"learningRate": 2e-5}}},
    "lora-2.2": RUNS["wan22"],
    "full-2.2": {
        "model": {"preset": "Wan2.2-I2V-Tiny", "source": {"s3": "s3://wan/models/tiny"}},
        "method": {"full": {"initFrom": {"lowNoise": "s3://wan/low"}}},
        "parallelism": {"experts": "Parallel"},
        "validation": {"samples": 1},
    },
    "all-fields": ALL,
}
SERVICE = {
    "model": {"preset": "Wan2.1-I2V-Tiny", "fineTuneRef": {"name": "studio-full"}},
    "adapters": [{"name": "style", "files": {"uri": "s3://wan/style.safetensors"},
                  "strength": 0.7, "trigger": "stylish"}],
    "effects": [{
        "name": "dream", "description": "Dreams.", "prompt": "dream, {prompt}",
        "adapters": [{"name": "style", "strength": 0.5}], "preview": "s3://wan/dream.mp4",
        "sampling": {"size": {"width": 64, "height": 48}, "frames": 9, "fps": 12, "steps": 6,
                     "guidance": 4, "shift": 3, "negativePrompt": "noise"},
    }],
    "sizes": [{"width": 64, "height": 48}, {"width": 48, "height": 64}],
    "defaults": {"frames": 5, "fps": 8, "steps": 4, "guidance": 3.5, "shift": 4,
                 "negativePrompt": "blur"},
    "limits": {"queueSeconds": 100, "frames": 49, "promptCharacters": 500,
               "uploadMebibytes": 5, "imageMegapixels": 10, "urlReferences": True,
               "queuedPerKey": 3, "requestsPerMinutePerKey": 9},
    "results": {"retentionHours": 5, "presignedSeconds": 90, "delivery": "Presigned"},
    "moderation": {"url": "http://moderation", "timeoutSeconds": 3, "onError": "Allow"},
    "pricePerHour": 2.5, "replicas": 2,
    "workers": {"gpus": 2, "drainSeconds": 50, "resources": {"memory": "8Gi"},
                "podTemplate": {"nodeSelector": {"gpu": "h100"}}},
    "gateway": {"keysSecretRef": {"name": "keys"}, "webhookSecretRef": {"name": "hooks"},
                "replicas": 3, "publicUrl": "https://videos.example", "studio": False},
    "store": {"endpoint": "https://s3.example", "bucket": "films", "prefix": "a/b",
              "caBundle": {"name": "corp-ca"}, "secretRef": {"name": "s3"}},
}  # fmt: skip
