"""Models that requests may name: the service's model, its effects and adapters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from wan_runtime.contract.service import Distilled, ServiceSpec
from wan_runtime.presets import PRESETS
from wan_runtime.serving.gateway import content
from wan_runtime.serving.gateway.access import Access, access
from wan_runtime.serving.gateway.resolve import order_of, qualities
from wan_runtime.serving.gateway.video_request import Ask
from wan_runtime.serving.problems import Code, Refusal

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelAdapter(BaseModel):
    name: str
    strength: float
    trigger: str
    available: bool
    """False: requests that name it are refused."""
    problem: str
    """Why it is not available."""
    distilled: Distilled | None
    """Steps and shift of all videos with it, which then have no guidance. None: it leaves them
    alone."""


class ModelSettings(BaseModel):
    """What a request gets that says nothing else, and what it may say."""

    size: str
    sizes: list[str]
    frames: int
    max_frames: int
    max_prompt_characters: int
    max_upload_bytes: int
    """Largest picture that is taken."""
    max_image_pixels: int
    """Largest picture that is taken, before it is cropped."""
    fps: float
    steps: int
    guidance: float
    guidance_low: float | None
    """None where the model has one expert."""
    qualities: list[str]
    """What `quality` may be, the default first."""
    negative_prompt: str
    predicted_seconds: float


class Model(BaseModel):
    """OpenAI's model object with our fields beside it."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str
    description: str
    preset: str
    effect: bool
    preview: str
    settings: ModelSettings
    adapters: list[ModelAdapter]
    available: bool
    """False: an effect with an adapter that is not, or with settings that workers which are being
    replaced cannot render; requests are refused."""


class Models(BaseModel):
    object: str = "list"
    data: list[Model]


@router.get("")
async def all_models(caller: Annotated[Access, Depends(access)]) -> Models:
    """The service's model first, then its effects."""
    service = caller.gateway.service
    # Effects are the spec's: some may be for a revision that is not told of yet.
    offered = service.model_copy(update={"others": None})
    effects = [each.name for each in service.effects if is_taken(_ask(each.name, offered), offered)]
    return Models(data=[_model(caller, name) for name in (service.name, *effects)])


@router.get("/{model}")
async def one_model(model: str, caller: Annotated[Access, Depends(access)]) -> Model:
    """One of them."""
    service = caller.gateway.service
    if model != service.name and service.effect(model) is None:
        raise Refusal(Code.NOT_FOUND, f"there is no model {model[:100]!r}", param="model")
    return _model(caller, model)


@router.get("/{model}/preview", response_class=Response)
async def preview(
    model: str, request: Request, caller: Annotated[Access, Depends(access)]
) -> Response:
    """The clip that shows an effect, where the service's bucket holds it."""
    effect = caller.gateway.service.effect(model)
    bucket = caller.gateway.store.uri("")
    if effect is None or not effect.preview.startswith(bucket):
        raise Refusal(Code.NOT_FOUND, f"no preview of {model[:100]!r} is kept here", param="model")
    key = effect.preview.removeprefix(bucket)
    return await content.file(caller.gateway, key, f"{model}-preview", request)


def _model(caller: Access, name: str) -> Model:
    service: ServiceSpec = caller.gateway.service
    effect = service.effect(name)
    # What such a request would become says all defaults truly.
    ask = _ask(name, service)
    order = order_of(ask, service.model_copy(update={"others": None}))
    notes = caller.gateway.reporter.faulty_adapters()
    pair = len(PRESETS[service.model.preset].experts) == 2
    return Model(
        id=name,
        owned_by=f"{service.namespace}/{service.name}",
        description=effect.description if effect else service.model.preset,
        preset=service.model.preset,
        effect=effect is not None,
        preview=effect.preview if effect else "",
        settings=ModelSettings(
            size=str(order.size),
            sizes=[str(size) for size in service.sizes],
            frames=order.frames,
            max_frames=service.limits.frames,
            max_prompt_characters=service.limits.prompt_characters,
            max_upload_bytes=service.limits.upload_bytes,
            max_image_pixels=service.limits.image_pixels,
            fps=order.fps,
            steps=order.steps,
            guidance=order.guidance,
            guidance_low=order.guidance_low if pair else None,
            qualities=list(qualities(service)),
            negative_prompt=order.negative_prompt,
            predicted_seconds=round(caller.gateway.predictor.seconds(order), 1),
        ),
        adapters=[
            ModelAdapter(
                name=each.name,
                strength=each.strength,
                trigger=each.trigger,
                available=each.name not in notes,
                problem=notes[each.name].message if each.name in notes else "",
                distilled=each.distilled,
            )
            for each in service.adapters
        ],
        available=is_taken(ask, service) and not any(use.name in notes for use in order.adapters),
    )


def _ask(name: str, service: ServiceSpec) -> Ask:
    """A request for a model with nothing but defaults."""
    return Ask(model=name, prompt="" if service.effect(name) else "x")


def is_taken(ask: Ask, service: ServiceSpec) -> bool:
    """Whether workers of all revisions at work can render such a request."""
    try:
        order_of(ask, service)
    except Refusal:
        return False
    return True
