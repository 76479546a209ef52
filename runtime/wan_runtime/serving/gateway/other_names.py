"""Fields of a request under the names that Wan's own tools and other video servers give them."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from wan_runtime.serving.settings import refused

SAME = {
    "num_frames": "frames",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "guidance_scale_2": "guidance_low",
}
"""Other name -> our field."""
OTHERS = {*SAME, "width", "height"}

Pixels = Annotated[int, Field(ge=1, le=99999)]
Guidance = Annotated[float, Field(ge=1, le=30, allow_inf_nan=False)]


class OtherNames(BaseModel):
    """Base of `Ask`: after it is checked, our fields have what came under other names."""

    num_frames: Annotated[int, Field(ge=1)] | None = None
    """Another name of `frames`."""
    num_inference_steps: Annotated[int, Field(ge=1, le=200)] | None = None
    """Another name of `steps`."""
    guidance_scale: Guidance | None = None
    """Another name of `guidance`."""
    guidance_scale_2: Guidance | None = None
    """Another name of `guidance_low`."""
    width: Pixels | None = None
    """`width` and `height` are another form of `size`."""
    height: Pixels | None = None

    @model_validator(mode="after")
    def _ours(self) -> Self:
        """Raises Refusal where two names say different things."""
        for other, name in SAME.items():
            self._take(name, getattr(self, other), other)
        if (self.width is None) is not (self.height is None):
            lacking = "width" if self.width is None else "height"
            raise refused(lacking, "is missing: width and height go together")
        if self.width is not None:
            self._take("size", f"{self.width}x{self.height}", "width")
        return self

    def _take(self, name: str, value: object, other: str) -> None:
        own = getattr(self, name)
        if value is None:
            return
        if own not in (None, value):
            raise refused(other, f"{value} contradicts {name} {own}: give one of them")
        setattr(self, name, value)

    def sent_as(self, name: str) -> str:
        """The name under which a field of ours came, for refusals."""
        other = {"size": "width"} | {ours: theirs for theirs, ours in SAME.items()}
        theirs = other.get(name, name)
        return name if getattr(self, theirs) is None else theirs
