"""Plain files of a page, read once and sent with the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

ASSETS = Path(__file__).parent / "assets"
"""Folder of the files that all pages share."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class File:
    """One of a page's, read once."""

    content: bytes
    media_type: str
    etag: str
    """Hash of the content as an HTTP entity tag, the same in all processes."""

    def response(self, headers: Mapping[str, str], request: Request) -> Response:
        """200, or 304 for a browser that has it already."""
        sent = {**headers, "ETag": self.etag, "Cache-Control": "no-cache"}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=sent)
        return Response(self.content, headers=sent, media_type=self.media_type)


def read(folder: Path) -> dict[str, File]:
    """The files of a page by name: its own, and those that all pages share."""
    paths = (*ASSETS.iterdir(), *folder.iterdir())
    return {path.name: _read(path) for path in paths if path.suffix in TYPES}


def headers(media: str, connect: str = "'self'") -> dict[str, str]:
    """Headers of every answer of a page. Scripts and styles come from its own origin, and no text
    becomes markup. `media`, `connect`: where videos and data may come from, in CSP's words."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        f"media-src {media}; connect-src {connect}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def isolated(sent: dict[str, str], request: Request) -> dict[str, str]:
    """The headers, and one that browsers log as an error where it does not come by https."""
    if "https" not in (request.url.scheme, request.headers.get("x-forwarded-proto")):
        return sent
    return {**sent, "Cross-Origin-Opener-Policy": "same-origin"}


def _read(path: Path) -> File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(content, TYPES[path.suffix], f'"{digest}"')
