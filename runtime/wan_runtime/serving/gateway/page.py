"""The studio: a page of plain files that asks the API as any client does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from wan_runtime.contract.service import ServiceSpec
from wan_runtime.serving.problems import Code, Refusal

FILES = Path(__file__).parent / "studio"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """One of the page's, read once."""

    content: bytes
    media_type: str
    etag: str
    """Hash of the content as an HTTP entity tag, the same at all gateways."""


def router(service: ServiceSpec) -> APIRouter:
    """Routes of the page. It needs no key: it asks for one, and keeps it in the browser's tab."""
    files = {path.name: _read(path) for path in FILES.iterdir() if path.suffix in TYPES}
    headers = _headers(service)
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    @routes.get("/studio")
    async def home(request: Request) -> Response:
        # Relative, so that it also holds behind a proxy that serves the gateway below a path.
        return RedirectResponse("studio/", headers=_isolated(headers, request))

    @routes.get("/studio/{name:path}")
    async def file(name: str, request: Request) -> Response:
        found = files.get(name or "index.html")
        if found is None:
            raise Refusal(Code.NOT_FOUND, f"the studio has no file {name[:100]}")
        sent = {**_isolated(headers, request), "ETag": found.etag, "Cache-Control": "no-cache"}
        if found.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=sent)
        return Response(found.content, headers=sent, media_type=found.media_type)

    return routes


def _read(path: Path) -> File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(content, TYPES[path.suffix], f'"{digest}"')


def _isolated(headers: dict[str, str], request: Request) -> dict[str, str]:
    """The headers, and one that browsers log as an error where it does not come by https."""
    if "https" not in (request.url.scheme, request.headers.get("x-forwarded-proto")):
        return headers
    return {**headers, "Cross-Origin-Opener-Policy": "same-origin"}


def _headers(service: ServiceSpec) -> dict[str, str]:
    # Videos come from the store itself where the gateway redirects to it.
    store = "" if service.results.proxied else f" {service.store.endpoint}"
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        f"media-src blob:; connect-src 'self'{store}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
