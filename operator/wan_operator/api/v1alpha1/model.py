"""Base models: which one, where its weights are, what sizes of video it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from wan_operator.api.markers import Cel, rule, syntax
from wan_operator.api.v1alpha1.common import ApiModel, rules
from wan_operator.api.v1alpha1.syntax import FileUri, ObjectName, S3Uri
from wan_runtime.contract.strides import LENGTHS, SIDES

PresetName = Literal[
    "Wan2.1-I2V-14B-720P",
    "Wan2.1-I2V-14B-480P",
    "Wan2.2-I2V-A14B",
    "Wan2.1-I2V-Tiny",
    "Wan2.2-I2V-Tiny",
]
MULTIPLE_OF_16 = Cel(
    "self % 16 == 0",
    "must be a multiple of 16",
    computed="'must be a multiple of 16: %d or %d, not %d'"
    ".format([self - self % 16, self - self % 16 + 16, self])",
)

FOUR_N_PLUS_1 = Cel(
    "(self - 1) % 4 == 0",
    "must be 4n+1, the lengths that Wan's VAE can hold",
    computed="'must be 4n+1, the lengths that the VAE can hold: %d or %d, not %d'"
    ".format([self - (self - 1) % 4, self - (self - 1) % 4 + 4, self])",
)

Side = Annotated[int, Field(ge=SIDES[0], le=SIDES[1]), MULTIPLE_OF_16]
Frames = Annotated[int, Field(ge=LENGTHS[0], le=LENGTHS[1]), FOUR_N_PLUS_1]
BY_EXPERT = rule(
    "has(self.uri) != (has(self.highNoise) || has(self.lowNoise))",
    "set uri, or one or both of highNoise and lowNoise",
)
"""Rule over addresses of weights: one for all experts, or one for each expert of Wan2.2."""


class PersistentVolumeClaimSource(ApiModel):
    claim_name: ObjectName
    """Name of a PersistentVolumeClaim in the same namespace."""
    path: Annotated[
        str,
        Field(max_length=1024),
        syntax(
            "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
            "must be relative to the volume's root, without '..'",
        ),
    ] = ""
    """Folder in the volume that holds the weights, relative to its root. Default: the root."""


class ModelSource(ApiModel):
    """Location of the base weights, in the layout of the official release. Exactly one of
    persistentVolumeClaim and s3 is set."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.persistentVolumeClaim) != has(self.s3)",
                "set exactly one of persistentVolumeClaim and s3",
            ),
        )
    )

    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """Volume with the base weights. All nodes with GPUs must be able to mount it read-only."""
    s3: S3Uri | None = None
    """S3 folder with the base weights, read with the endpoint and credentials of the store. The
    weights are verified, and converted to safetensors where needed, once per store prefix."""


SOURCED = rule(
    "has(self.source) || self.preset.endsWith('-Tiny')",
    "name the volume or the S3 folder with the weights; only the Tiny presets need none",
    ".source",
    reason="FieldValueRequired",
)
"""Rule over a base model: where its weights are."""


class Model(ApiModel):
    model_config = ConfigDict(json_schema_extra=rules(SOURCED))

    preset: PresetName
    """Name of the Wan model, which also sets the default size, length and sampling."""
    source: ModelSource | None = None
    """Location of the base weights, in the layout of the official release. The Tiny presets need
    none."""


class VideoSize(ApiModel):
    """Width and height of a video."""

    width: Side
    """Width in pixels, a multiple of 16."""
    height: Side
    """Height in pixels, a multiple of 16."""


class AdapterFiles(ApiModel):
    """LoRA files made elsewhere. docs/datasets.md has the tools whose names of tensors are read."""

    model_config = ConfigDict(json_schema_extra=rules(BY_EXPERT))

    uri: FileUri | None = None
    """S3 address of a .safetensors file. For Wan2.2 it is applied to both experts, or names the
    layers of each."""
    high_noise: FileUri | None = None
    """S3 address of a .safetensors file for the high-noise expert of Wan2.2, in place of uri."""
    low_noise: FileUri | None = None
    """S3 address of a .safetensors file for the low-noise expert of Wan2.2, in place of uri."""
