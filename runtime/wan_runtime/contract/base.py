"""The base of all that is written to or read from JSON: job files, progress, results, manifests."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Contract(BaseModel):
    """camelCase on the wire, closed against unknown fields: both sides ship from one release."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
    )

    def stated(self, *but: str) -> dict[str, object]:
        """The fields that are not as by default, in JSON's types; without those named in `but`."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=set(but))
