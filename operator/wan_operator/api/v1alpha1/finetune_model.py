"""WanFineTune.spec.model: which base model, and where its weights are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, rule
from wan_operator.api.v1alpha1.common import ApiModel, ObjectName, S3Uri, rules

PresetName = Literal[
    "Wan2.1-I2V-14B-720P",
    "Wan2.1-I2V-14B-480P",
    "Wan2.2-I2V-A14B",
    "Wan2.1-I2V-Tiny",
    "Wan2.2-I2V-Tiny",
]


class PersistentVolumeClaimSource(ApiModel):
    claim_name: ObjectName
    """PersistentVolumeClaim in the same namespace."""
    path: Annotated[
        str,
        Field(max_length=1024),
        Cel(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be relative to the volume's root, without '..'",
        ),
    ] = ""
    """Folder within the volume. Default: its root."""


class ModelSource(ApiModel):
    """Where the base weights are, in the layout of the official release."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.persistentVolumeClaim) != has(self.s3)",
                "set exactly one of persistentVolumeClaim and s3",
            ),
        )
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A volume that all training nodes can mount read-only."""
    s3: S3Uri | None = None
    """Folder, read with the store's endpoint and credentials. Verified, and converted to
    safetensors where it is not, once for all runs of a store prefix."""


class Model(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.source) || self.preset.endsWith('-Tiny')",
                "name the volume or the S3 folder with the weights; "
                "only the Tiny presets make their own",
                ".source",
                reason="FieldValueRequired",
            ),
        )
    )

    preset: PresetName
    """Which Wan model."""
    source: ModelSource | None = None
    """Where its weights are. The Tiny presets need none."""
