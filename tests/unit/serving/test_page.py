"""The studio's files as they are served and packaged."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import hatchling.build
import httpx
import pytest

from running_gateway import RunningGateway
from wan_runtime.serving.gateway.page import FILES

pytest_plugins = ["gateway_fixtures"]


def test_files_are_kept_by_their_content(gateway: RunningGateway) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
             ".svg": "image/svg+xml"}  # fmt: skip
    for path in FILES.iterdir():
        answer = httpx.get(f"{gateway.url}/studio/{path.name}", timeout=60)
        assert answer.content == path.read_bytes()
        assert answer.headers["Content-Type"].split(";")[0] == types[path.suffix]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        known = {"If-None-Match": answer.headers["ETag"]}
        again = httpx.get(f"{gateway.url}/studio/{path.name}", headers=known, timeout=60)
        assert (again.status_code, again.content) == (304, b"")
    for root in ("/", "/studio"):
        answer = httpx.get(f"{gateway.url}{root}", follow_redirects=True, timeout=60)
        assert (answer.status_code, answer.url.path) == (200, "/studio/")
    for path in ("/studio/nothing.js", "/studio/../app.py", "/studio/%2e%2e/app.py"):
        assert httpx.get(f"{gateway.url}{path}", timeout=60).status_code == 404


def test_a_service_may_have_no_studio(make_gateway: Callable[..., RunningGateway]) -> None:
    gateway = make_gateway(studio=False)
    for path in ("/", "/studio/", "/studio/studio.js"):
        assert httpx.get(f"{gateway.url}{path}", timeout=60).status_code == 404


def test_the_wheel_has_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    wheel = tmp_path / hatchling.build.build_wheel(str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"wan_runtime/serving/gateway/studio/{path.name}" for path in FILES.iterdir()} <= names
