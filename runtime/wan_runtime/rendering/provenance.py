"""What a video says of itself: in the mp4's comment, and as the digest of its weights. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from wan_runtime.contract.service import Profile
from wan_runtime.models.adapters.applied import AppliedAdapter
from wan_runtime.models.digest import canonical_json
from wan_runtime.models.full_weights import FineTune
from wan_runtime.rendering.order import VideoOrder

AI_CONTENT = "AI-generated content"
SAMPLER = "flow-matching Euler"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The IPTC's term for media that a model made."""


def weights_digest(base: str, adapters: Sequence[AppliedAdapter]) -> str:
    """SHA-256 of what made the pixels: the base model's digest, and each adapter's files and
    strength."""
    return hashlib.sha256(canonical_json([base, adapter_facts(adapters)])).hexdigest()


def metadata(
    order: VideoOrder,
    preset: str,
    base: str,
    adapters: Sequence[AppliedAdapter],
    fine_tune: FineTune | None,
    profile: Profile,
    **more: object,
) -> dict[str, str]:
    """For the mp4. Of the prompts only their hashes: who gets a video need not see them. `more`:
    further facts, in JSON's types."""
    settings = order.model_dump(mode="json", include={"size", "frames", "fps", "steps", "shift"})
    comment = {
        "aiGenerated": True,
        "digitalSourceType": SOURCE_TYPE,
        "model": preset,
        "baseWeights": base,
        "adapters": adapter_facts(adapters),
        "promptSha256": _sha256(order.prompt),
        "negativePromptSha256": _sha256(order.negative_prompt),
        "seed": order.seed,
        "guidance": [order.guidance, order.guidance_low],
        "sampler": SAMPLER,
        "profile": profile,
        **settings,
        **more,
    }
    if fine_tune is not None:
        comment["fineTune"] = fine_tune.model_dump(mode="json", by_alias=True)
    return {"comment": canonical_json(comment).decode(), "description": AI_CONTENT}


def adapter_facts(adapters: Sequence[AppliedAdapter]) -> list[dict[str, object]]:
    """Name, strength and files of each, in JSON's types."""
    return [
        {
            "name": each.name,
            "strength": each.strength,
            "sha256": {expert: file.sha256 for expert, file in each.files.items()},
        }
        for each in adapters
    ]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
