"""What clients send to create a video: OpenAI's fields, and ours beside them."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.datastructures import FormData, UploadFile

from wan_runtime.contract.service import AdapterUse, Name, SamplingSpec
from wan_runtime.data.signatures import HEAD, kind_of
from wan_runtime.faults import faults_of, value
from wan_runtime.serving.gateway.other_names import OTHERS, Guidance, OtherNames
from wan_runtime.serving.gateway.text import Text, read_json
from wan_runtime.serving.problems import Code, Refusal

User = Annotated[Text, Field(max_length=256)]


class Reference(BaseModel):
    """A first frame that is not uploaded."""

    model_config = ConfigDict(extra="forbid")

    image_url: Annotated[Text, Field(max_length=2**26)] | None = None
    """https: or data: URL."""
    file_id: Text | None = None
    """Not supported; named so that the refusal can say so."""


class Adapter(BaseModel):
    """A LoRA of the service, by name."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    strength: Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)] | None = None
    """None: the adapter's own."""
    expert: Literal["high_noise", "low_noise"] | None = None
    """Expert of Wan2.2 to which the adapter is applied; None: each expert that it has weights
    for."""

    def use(self) -> AdapterUse:
        expert = {"high_noise": "HighNoise", "low_noise": "LowNoise", None: None}[self.expert]
        return AdapterUse.model_validate(
            {"name": self.name, "strength": self.strength, "expert": expert}
        )


class Ask(OtherNames):
    """A request for a video. Everything but the picture and the prompt has a default."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text = ""
    """May be empty where an effect is the model."""
    model: Annotated[Text, Field(max_length=253)] | None = None
    """The service's model or one of its effects: see GET /v1/models. None: the service's model."""
    size: Annotated[str, Field(pattern=r"^\d{1,5}x\d{1,5}$")] | None = None
    """`<width>x<height>` in pixels, one of the service's."""
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Length; rounded to the frames that the model can make."""
    frames: Annotated[int, Field(ge=5)] | None = None
    """4n+1; instead of `seconds`. `max_frames` of GET /v1/models is the service's limit."""
    fps: Annotated[float, Field(ge=1, le=60, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Below 2**32, for the noise is drawn from 32 bits of it: larger ones would share their videos.
    None: a random one, which the answer has."""
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    guidance: Guidance | None = None
    guidance_low: Guidance | None = None
    """Guidance of Wan2.2's low-noise expert; None: the same as `guidance`."""
    negative_prompt: Annotated[Text, Field(max_length=4000)] | None = None
    adapters: Annotated[tuple[Adapter, ...], Field(max_length=8)] = ()
    quality: Literal["exact", "lossless", "balanced", "fast"] | None = None
    """Arithmetic of the transformers, see GET /v1/models. None: the service's."""
    visible_mark: bool = False
    """Draw `AI-generated` into the picture. The file's metadata always says so."""
    user: User | None = None
    """End user of the client, which the video's resource has too."""
    webhook_url: Annotated[Text, Field(max_length=2000)] | None = None
    """URL that is sent an event once the video is completed or has failed."""

    def sampling(self) -> SamplingSpec:
        """Settings that it chose, without the size and the length."""
        return SamplingSpec(
            fps=self.fps,
            steps=self.steps,
            guidance=self.guidance,
            guidance_low=self.guidance_low,
            negative_prompt=self.negative_prompt,
        )


class Remix(BaseModel):
    """A change of a completed video."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    user: User | None = None
    """End user of the client, which the new video's resource has."""


JSON = "application/json"
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
TEMPLATE = "#/components/schemas/{model}"

TEXTS = ("adapters", "input_reference")
"""Fields that a form may hold as JSON text."""


def of_fields(content: Any, *, uploaded: bool = False) -> tuple[Ask, Reference | None]:
    """The request, and its picture where that is not uploaded. Raises Refusal(INVALID_REQUEST),
    with the field."""
    if not isinstance(content, dict):
        text = f"the body must be a JSON object, not {value(content)}"
        raise Refusal(Code.INVALID_REQUEST, text)
    fields = dict(content)
    reference = fields.pop("input_reference", None)
    if uploaded and reference is not None:
        raise _twice("input_reference")
    if isinstance(reference, str):
        reference = {"image_url": reference}
    return checked(Ask, fields), None if reference is None else checked(
        Reference, reference, "input_reference"
    )


def fields_of(form: FormData) -> tuple[dict[str, Any], UploadFile | None]:
    """The fields of a form, and its file. Nested fields come as JSON text, or with brackets as the
    SDK sends them: `adapters[][name]`, `input_reference[image_url]`. Raises
    Refusal(INVALID_REQUEST)."""
    fields: dict[str, Any] = {}
    nested: dict[str, list[dict[str, Any]]] = {}
    upload: UploadFile | None = None
    for key, sent in form.multi_items():
        if isinstance(sent, UploadFile):
            if key != "input_reference" or upload is not None:
                raise Refusal(
                    Code.INVALID_REQUEST,
                    f"{key}: one file may be sent, as input_reference",
                    param=key,
                )
            upload = sent
            continue
        name, *inner = key.replace("]", "").split("[")
        if inner:
            parts = nested.setdefault(name, [{}])
            _next_with(parts, inner[-1], is_list=name == "adapters")[inner[-1]] = sent
        elif name in fields:
            raise _twice(name)
        else:
            fields[name] = _json_text(name, sent) if name in TEXTS else sent
    for name, parts in nested.items():
        if name in fields:
            raise _twice(name)
        fields[name] = parts if name == "adapters" else parts[0]
    return fields, upload


def _twice(name: str) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"{name} is given twice: send it once", param=name)


def _next_with(items: list[dict[str, Any]], field: str, *, is_list: bool) -> dict[str, Any]:
    """The item that still lacks the field: forms repeat all first fields, then all second ones."""
    for item in items:
        if field not in item:
            return item
    if not is_list:
        raise _twice(field)
    items.append({})
    return items[-1]


def _json_text(name: str, text: str) -> Any:
    if name == "input_reference" and not text.lstrip().startswith(("{", '"')):
        if kind_of(text[:HEAD].encode("latin-1", "replace")) is not None:
            raise Refusal(
                Code.INVALID_REQUEST,
                "input_reference came as text: give the part a filename, or the type image/png",
                param=name,
            )
        return text  # a URL
    return read_json(text, f"{name}, which is {value(text)},", name)


def checked(kind: Any, fields: Any, below: str = "") -> Any:
    """A model of the fields. Raises Refusal(INVALID_REQUEST) for the first that is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        fault = faults_of(error, below)[0]
        text = str(fault) if fault.path else f"the body {fault}"
        raise Refusal(Code.INVALID_REQUEST, text, param=fault.path or None) from None


def digest_of(ask: Ask, picture: bytes) -> str:
    """What an Idempotency-Key stands for: the same under whatever names the fields came, and as
    earlier releases took it, which knew no user."""
    fields = ask.model_dump(mode="json", exclude=OTHERS | ({"user"} if ask.user is None else set()))
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode() + b"\0" + picture).hexdigest()


def _schema(reference: dict[str, Any]) -> dict[str, Any]:
    schema = Ask.model_json_schema(ref_template=TEMPLATE)
    schema.pop("$defs")
    schema["properties"]["input_reference"] = reference
    schema["required"] = ["input_reference"]
    return schema


def _body(plain: dict[str, Any], multipart: dict[str, Any]) -> dict[str, Any]:
    kinds = {JSON: plain, MULTIPART: multipart, URLENCODED: plain}
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}


def _named(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": TEMPLATE.format(model=model.__name__)}


# Of bodies in the API's description. They are read by hand, since they come in several forms.
_FILE = {"type": "string", "format": "binary"}
CREATE = _body(_schema(_named(Reference)), _schema(_FILE))
ESTIMATE = _body(_named(Ask), _named(Ask))
REMIX = _body(_named(Remix), _named(Remix))
SCHEMAS: dict[str, Any] = models_json_schema(
    [(model, "validation") for model in (Ask, Adapter, Reference, Remix)], ref_template=TEMPLATE
)[1]["$defs"]
"""Components that these refer to."""
