"""The gateway: a FastAPI application over the queue and the store. Stateless: run several."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from wan_runtime.artifacts.store import Store
from wan_runtime.contract.rollout import ROLLOUT_FOLDER
from wan_runtime.contract.service import ServiceSpec
from wan_runtime.errors import StepError
from wan_runtime.process.pages import Pages
from wan_runtime.serving.gateway import body, estimates, metrics, models, page, videos, webhooks
from wan_runtime.serving.gateway.addresses import PrivateHosts
from wan_runtime.serving.gateway.checks import Checks
from wan_runtime.serving.gateway.keys import Keys
from wan_runtime.serving.gateway.predict import Predictor
from wan_runtime.serving.gateway.rates import Rates
from wan_runtime.serving.gateway.refusals import RESPONSES, answer, describe, unavailable
from wan_runtime.serving.gateway.reporter import Reporter
from wan_runtime.serving.gateway.requests import Requests, without_body
from wan_runtime.serving.gateway.rollouts import Rollouts
from wan_runtime.serving.gateway.state import Gateway
from wan_runtime.serving.gateway.text import UNREADABLE, misfit
from wan_runtime.serving.gateway.unopened import Unopened
from wan_runtime.serving.gateway.upkeep import Upkeep
from wan_runtime.serving.planned import Workers
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.serving.queue.errors import QueueAway
from wan_runtime.serving.queue.queue import Queue
from wan_runtime.serving.reach import opened, reach
from wan_runtime.serving.webhook_secret import WebhookSecret

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a request waits for an absent database before it is answered with 503."""


def create_app(
    service: ServiceSpec,
    *,
    database: str,
    store: Store,
    keys: Path,
    webhook_secret: WebhookSecret | None = None,
    rollout: Path = Path(ROLLOUT_FOLDER),
    pages_port: int = 0,
    patience: float = PATIENCE,
) -> FastAPI:
    """The application. It serves once the database admits it, and until then answers 503; it ends
    its loops when it stops. `rollout`: folder of ROLLOUT_FILE. `pages_port`: of what only the
    cluster may see, 0 for any, which `app.state.pages` has. `patience`: seconds that a request
    waits for an absent database."""

    known, signing = Keys(keys, service.id), webhook_secret or WebhookSecret()
    checks = Checks.of(service, known, signing)
    predictor = Predictor(Workers.of(service))
    private = PrivateHosts.of(service.webhook_private_hosts or ())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            reporter = Reporter(checks.faults)
            app.state.reporter = reporter
            app.state.metrics.registry.register(reporter)
            app.state.pages = Pages(reporter.pages(app.state.metrics.text), pages_port)
            stack.callback(app.state.pages.close)
            for loop in (checks.run(), serve(app, reporter)):
                stack.push_async_callback(_end, asyncio.create_task(loop))
            yield

    async def begin(url: str) -> tuple[Queue, Mapping[str, str]]:
        queue = await opened(service, url, patience)
        try:
            return queue, await queue.owners(await run_in_threadpool(known.ids))
        except BaseException:
            await queue.close()
            raise

    async def serve(app: FastAPI, reporter: Reporter) -> None:
        """Until cancelled."""
        queue, owners = await reach(database, begin, reporter.lacks)
        app.state.gateway = Gateway(
            service, queue, store, known, owners, Rates(), predictor, signing, private,
            reporter,
        )  # fmt: skip
        upkeep = Upkeep(queue, store, predictor, service.prefix)
        deliveries = webhooks.Deliveries(queue, signing, private)
        canary = Rollouts(queue, rollout)
        loops = (upkeep.run(), deliveries.run(), canary.run(), reporter.run(queue, canary.mounted))
        try:
            await asyncio.gather(*loops, return_exceptions=True)
        finally:
            await queue.close()

    app = FastAPI(
        title="Wan videos",
        version="1",
        description="OpenAI's videos API over Wan image-to-video models. "
        "Every error is `{error: {message, type, param, code}}`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.metrics = metrics.Metrics()
    described = (videos.router, estimates.router, models.router)
    for router in described:
        app.include_router(router, responses=RESPONSES)
    describe(app)
    others = (metrics.router, *((page.router(service),) if service.studio else ()))
    for router in others:
        app.include_router(router)
    _answer_errors(app, (*described, *others))
    app.add_middleware(body.Limit, picture=service.limits.upload_bytes)
    app.add_middleware(Unopened)
    app.add_middleware(Requests, metrics=app.state.metrics)
    return app


def _answer_errors(app: FastAPI, routers: tuple[APIRouter, ...]) -> None:
    """Every error becomes one of the closed list. `routers`: all of the application."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return answer(refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return answer(misfit(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, Refusal):  # met while FastAPI read the body
            return answer(error.__cause__)
        code, path = Code.INVALID_REQUEST, request.scope["path"]
        allow = _methods(routers, path)
        if error.status_code == 404:
            code = Code.NOT_FOUND
            text = f"there is no {path[:100]}: /openapi.json has what there is"
        elif error.status_code == 405:
            sent = "HEAD" if without_body(request.scope) else request.method
            text = f"{path[:100]} takes {allow}, not {sent[:20]}"
        else:  # FastAPI's own, of a body
            text = f"the body {UNREADABLE}"
        response = answer(Refusal(code, text))
        response.status_code = error.status_code
        if error.status_code == 405:
            response.headers["Allow"] = allow
        return response

    @app.exception_handler(QueueAway)
    @app.exception_handler(StepError)
    async def away(_: Request, error: Exception) -> Response:
        log.warning("database or store: %s", error)
        return answer(unavailable(error))


def _methods(routers: tuple[APIRouter, ...], path: str) -> str:
    """All methods of a path, for `Allow`: a method has a route of its own."""
    found = {
        method
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.path_regex.match(path)
        for method in route.methods or ()
    }
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())) or ["GET", "HEAD"])


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
