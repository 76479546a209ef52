"""The studio's files as they are served and packaged."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hatchling.build
import httpx
import pytest

import wan_runtime
from running_gateway import RunningGateway, plain
from wan_runtime.serving.gateway.page import FILES
from wan_runtime.web.files import ASSETS

pytest_plugins = ["gateway_fixtures"]


@pytest.fixture
def browser(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with plain(gateway.url) as client:
        yield client


def test_files_are_kept_by_their_content(browser: httpx.Client) -> None:
    types = {".html": "text/html", ".css": "text/css", ".js": "text/javascript",
             ".svg": "image/svg+xml"}  # fmt: skip
    for file in (*FILES.iterdir(), *ASSETS.iterdir()):
        answer = browser.get(f"/studio/{file.name}")
        assert answer.content == file.read_bytes()
        assert answer.headers["Content-Type"].split(";")[0] == types[file.suffix]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        known = {"If-None-Match": answer.headers["ETag"]}
        again = browser.get(f"/studio/{file.name}", headers=known)
        assert (again.status_code, again.content) == (304, b"")
    for root in ("/", "/studio"):
        answer = browser.get(root, follow_redirects=True)
        assert (answer.status_code, answer.url.path) == (200, "/studio/")
    for path in ("/studio/nothing.js", "/studio/../app.py", "/studio/%2e%2e/app.py"):
        assert browser.get(path).status_code == 404


def test_pages_are_isolated_where_browsers_take_it(browser: httpx.Client) -> None:
    """By plain HTTP they log the header as an error."""
    isolation = "Cross-Origin-Opener-Policy"
    for path in ("/", "/studio/"):
        assert isolation not in browser.get(path).headers
        behind = browser.get(path, headers={"X-Forwarded-Proto": "https"})
        assert behind.headers[isolation] == "same-origin"


def test_a_service_may_have_no_studio(make_gateway: Callable[..., RunningGateway]) -> None:
    gateway = make_gateway(studio=False)
    with plain(gateway.url) as browser:
        for path in ("/", "/studio/", "/studio/studio.js"):
            assert browser.get(path).status_code == 404


def test_the_wheel_has_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    wheel = tmp_path / hatchling.build.build_wheel(str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in (FILES, ASSETS):
        below = folder.relative_to(Path(wan_runtime.__file__).parents[1]).as_posix()
        assert {f"{below}/{path.name}" for path in folder.iterdir()} <= names
