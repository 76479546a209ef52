"""Datasets of clips, as all kinds that read one name them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wan_operator.api.markers import Schema, rule
from wan_operator.api.v1alpha1.common import ApiModel


class Columns(ApiModel):
    """Names of the columns in the dataset's metadata. Columns from `source` on may be missing in
    the data."""

    video: Annotated[str, Field(min_length=1, max_length=64)] = "video"
    """Column with the path of the clip, for the format DiffSynth only."""
    prompt: Annotated[str, Field(min_length=1, max_length=64)] = "prompt"
    """Column with the caption of the clip, for the format DiffSynth and for JSON members of the
    format WebDataset."""
    source: Annotated[str, Field(min_length=1, max_length=64)] = "source"
    """Column with the name of the recording that a clip was cut from. All clips of a recording are
    on the same side of the split. Without this column each clip counts as a recording of its own.
    """
    first_frame: Annotated[str, Field(min_length=1, max_length=64)] = "input_image"
    """Column with the picture that the video starts from. Without this column, or where it is
    empty, the first frame of the clip is used."""
    control_video: Annotated[str, Field(min_length=1, max_length=64)] = "control_video"
    """Column with a control video, which is checked and recorded but not trained on. In the format
    Musubi it is always control_path."""
    vace_video: Annotated[str, Field(min_length=1, max_length=64)] = "vace_video"
    """Column with a VACE video, which is checked and recorded but not trained on."""


COLUMN_RULES: tuple[Schema, ...] = (
    rule(
        "self.format == 'DiffSynth' || self.columns.video == 'video'",
        "columns.video applies to the format DiffSynth only: leave it out",
        ".columns.video",
        reason="FieldValueForbidden",
    ),
    rule(
        "self.format in ['DiffSynth', 'WebDataset'] || self.columns.prompt == 'prompt'",
        "columns.prompt applies to the formats DiffSynth and WebDataset only: leave it out",
        ".columns.prompt",
        reason="FieldValueForbidden",
    ),
    rule(
        "self.format != 'Musubi' || (self.columns.controlVideo == 'control_video' && "
        "self.columns.vaceVideo == 'vace_video')",
        "the format Musubi names control videos control_path and has no VACE videos: leave "
        "columns.controlVideo and columns.vaceVideo out",
        ".columns",
        reason="FieldValueForbidden",
    ),
    rule(
        "self.format != 'Folder' || (self.columns.source == 'source' && "
        "self.columns.firstFrame == 'input_image' && "
        "self.columns.controlVideo == 'control_video' && "
        "self.columns.vaceVideo == 'vace_video')",
        "the format Folder has no columns: leave them out",
        ".columns",
        reason="FieldValueForbidden",
    ),
)
"""Rules over an object with `format` and `columns`."""
