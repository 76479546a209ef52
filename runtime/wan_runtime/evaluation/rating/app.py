"""The rating page as a FastAPI application. A link lets its holder judge, and no more."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import AfterValidator, Field, ValidationError
from starlette.exceptions import HTTPException

from wan_runtime.artifacts.store import ArtifactCorrupt
from wan_runtime.contract.base import Contract
from wan_runtime.contract.evaluation import Dimension
from wan_runtime.contract.reasons import Reason
from wan_runtime.errors import StepError
from wan_runtime.evaluation.rating.judgements import Judgement
from wan_runtime.evaluation.rating.media import media
from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.evaluation.rating.plan import Item
from wan_runtime.evaluation.records import Choice, Rating
from wan_runtime.faults import described
from wan_runtime.web import files

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
BODY_LIMIT = 4096
"""Bytes of a judgement, at most."""
RETRY_SECONDS = 3
UNKNOWN = "this link is not known: copy the whole link, or get a new one from whoever sent it"
GONE = "this video is no longer among those that you judge"
AWAY = "the store does not answer: your choice is kept in this page and is sent again"
REFUSES = "the store refuses what is saved: those who run the evaluation find the cause in its log"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def _all_dimensions(scores: dict[Dimension, int]) -> dict[Dimension, int]:
    missing = [name for name in get_args(Dimension) if name not in scores]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    return scores


class Scored(Contract):
    """Body of a judgement of one video."""

    scores: Annotated[
        dict[Dimension, Annotated[int, Field(ge=1, le=5)]], AfterValidator(_all_dimensions)
    ]


class Chosen(Contract):
    """Body of a judgement of two videos."""

    chosen: Literal["Left", "Right", "Tie", "BothBad"]


def create_app(panel: Panel, saved: Callable[[], None]) -> FastAPI:
    """The application. `saved` is called in the event loop after each judgement."""
    app = FastAPI(title="Wan ratings", docs_url=None, redoc_url=None, openapi_url=None)
    for router in (_probes(), _rater(panel, saved), _admin(panel)):
        app.include_router(router)
    _pages(app, panel)
    _answer_errors(app)
    return app


def _probes() -> APIRouter:
    routes = APIRouter()

    @routes.get("/livez")
    @routes.get("/readyz")
    async def ready() -> Response:
        # Also while the store is away, as it then is for every other pod: the page says so.
        return Response("ok\n", media_type="text/plain")

    return routes


def _rater(panel: Panel, saved: Callable[[], None]) -> APIRouter:
    routes = APIRouter(prefix="/rate/{token}")
    locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    def rater_of(token: str) -> str:
        rater = panel.links.rater(token, panel.spec.raters)
        if rater is None:
            raise Refused(404, UNKNOWN)
        return rater

    def item_of(rater: str, id: str) -> Item:
        item = panel.items[rater].get(id)
        if item is None:
            raise Refused(410, GONE)
        return item

    @routes.get("/session")
    async def session(token: str) -> Response:
        rater = rater_of(token)
        given = panel.judgements.of(rater)
        items = [
            {
                "id": item.id,
                "prompt": item.clip.prompt,
                "videos": len(item.sides),
                "answer": _answer(given.get(item.id), item),
            }
            for item in panel.items[rater].values()
        ]
        deadline = panel.deadline.isoformat()
        return _json({"mode": panel.spec.mode, "deadline": deadline, "items": items})

    @routes.put("/judgements/{id}")
    async def judge(token: str, id: str, request: Request) -> Response:
        rater = rater_of(token)
        item = item_of(rater, id)
        judgement = _judgement(panel.spec.mode, rater, item, await _body(request))
        async with locks[rater, id]:
            await run_in_threadpool(panel.judgements.save, panel.store, rater, item, judgement)
        saved()
        return _json({"saved": True})

    @routes.get("/media/{id}/{name}")
    async def file(token: str, id: str, name: str, request: Request) -> Response:
        found = await media(panel, item_of(rater_of(token), id), name, request)
        if found is None:
            raise Refused(404, "this video is no longer in the store as it was")
        return found

    return routes


def _admin(panel: Panel) -> APIRouter:
    routes = APIRouter(prefix="/admin/{token}")

    @routes.get("/progress")
    async def progress(token: str) -> Response:
        if not panel.links.is_admin(token):
            raise Refused(404, UNKNOWN)
        raters = [
            {
                "name": rater,
                "done": len(panel.judgements.of(rater)),
                "total": len(items),
                "token": panel.links.raters[rater],
            }
            for rater, items in panel.items.items()
        ]
        return _json({"deadline": panel.deadline.isoformat(), "raters": raters})

    return routes


def _pages(app: FastAPI, panel: Panel) -> None:
    """The documents, and the files beside them, which are no secret."""
    known = files.read(PAGE)
    headers = files.headers("'self'")
    holders = {
        "rate": lambda token: panel.links.rater(token, panel.spec.raters) is not None,
        "admin": panel.links.is_admin,
    }

    @app.get("/")
    async def home(request: Request) -> Response:
        return known["home.html"].response(files.isolated(headers, request), request)

    @app.get("/{kind}/{token}")
    async def closed(kind: str, token: str, request: Request) -> Response:
        # Relative: it also holds behind a proxy that serves the page below a path.
        return RedirectResponse(f"{token}/", headers=files.isolated(headers, request))

    @app.get("/{kind}/{token}/")
    async def document(kind: str, token: str, request: Request) -> Response:
        sent = files.isolated(headers, request)
        if kind in holders and holders[kind](token):
            return known[f"{kind}.html"].response(sent, request)
        unknown = known["unknown.html"]
        return Response(unknown.content, 404, sent, unknown.media_type)

    @app.get("/{kind}/{token}/{name}")
    async def file(kind: str, token: str, name: str, request: Request) -> Response:
        found = known.get(name)
        if found is None or name.endswith(".html"):
            raise Refused(404, "the page has no such file")
        return found.response(files.isolated(headers, request), request)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return _json({"message": error.message}, error.status)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _json({"message": "there is nothing here"}, error.status_code)

    @app.exception_handler(StepError)
    async def away(_: Request, error: StepError) -> Response:
        log.warning("store: %s", error.message)
        waits = error.reason is Reason.STORE_UNREACHABLE or isinstance(error, ArtifactCorrupt)
        response = _json({"message": AWAY if waits else REFUSES}, 503)
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response


async def _body(request: Request) -> bytes:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_LIMIT:
            raise Refused(413, f"a judgement has at most {BODY_LIMIT} bytes")
    return data


def _judgement(mode: Literal["Scores", "Pairs"], rater: str, item: Item, body: bytes) -> Judgement:
    """What the body says of the item. Raises Refused."""
    about = {"rater": rater, "clip": item.clip.id, "repeat": item.repeat}
    now = datetime.now(UTC)
    names = [side.candidate for side in item.sides]
    try:
        if mode == "Scores":
            scores = Scored.model_validate_json(body).scores
            return Rating(**about, candidate=names[0], scores=scores, time=now)
        chosen = Chosen.model_validate_json(body).chosen
        return Choice(**about, left=names[0], right=names[1], chosen=chosen, time=now)
    except ValidationError as error:
        raise Refused(400, f"the judgement cannot be used: {described(error)}") from error


def _answer(judgement: Judgement | None, item: Item) -> object:
    """An earlier judgement as the page sends it; None where there is none."""
    match judgement:
        case Rating(scores=scores):
            return {"scores": scores}
        case Choice(left=left, chosen=chosen):
            turned = {"Left": "Right", "Right": "Left"}
            as_now = left == item.sides[0].candidate
            return {"chosen": chosen if as_now else turned.get(chosen, chosen)}
    return None


def _json(content: object, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, {"Cache-Control": "no-store"})
