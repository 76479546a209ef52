"""The studio: a page of plain files that asks the API as any client does."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.problems import Code, Refusal
from wan_runtime.web import files

FILES = Path(__file__).parent / "studio"


def router(service: ServiceSpec) -> APIRouter:
    """Routes of the page. It needs no key: it asks for one, and keeps it in the browser's tab."""
    known = files.read(FILES)
    # Videos come from the store itself where the gateway redirects to it.
    store = "" if service.results.proxied else f" {service.store.endpoint}"
    headers = files.headers("blob:", f"'self'{store}")
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    @routes.get("/studio")
    async def home(request: Request) -> Response:
        # Relative, so that it also holds behind a proxy that serves the gateway below a path.
        return RedirectResponse("studio/", headers=files.isolated(headers, request))

    @routes.get("/studio/{name:path}")
    async def file(name: str, request: Request) -> Response:
        found = known.get(name or "index.html")
        if found is None:
            raise Refusal(Code.NOT_FOUND, f"the studio has no file {name[:100]}")
        return found.response(files.isolated(headers, request), request)

    return routes
