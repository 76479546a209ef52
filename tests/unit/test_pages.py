"""Pages for people: links that lead somewhere, decisions of one form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "charts/**/*.md", "e2e/**/*.md", "runtime/**/*.md")
    for path in sorted(ROOT.glob(pattern))
]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(rf"{FENCED.pattern}|`[^`\n]+`", FENCED.flags)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
DECISION = re.compile(
    r"# (?P<number>\d{4}) (?P<title>.+)\n\n"
    r"Date: \d{4}-\d\d-\d\d\. Status: (?:Proposed|Accepted|Superseded by \d{4})\.\n\n"
)


def anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    titles = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path, text: str) -> list[str]:
    """Relative links that lead to no file, or to no heading of a page."""
    found = []
    for link in LINK.findall(CODE.sub("", text)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    assert broken(ROOT / page, (ROOT / page).read_text()) == []


@pytest.mark.parametrize("link", ["docs/nowhere.md", "docs/concepts.md#nothing", "#nothing"])
def test_a_broken_link_is_found(link: str) -> None:
    text = (
        f"[a]({link}) [b](docs/concepts.md#base-models) ![c](docs/flow.svg) [d](https://e.example)"
    )
    assert broken(ROOT / "README.md", text) == [link]


def test_every_decision_has_number_date_and_status_and_is_listed() -> None:
    listed = (DECISIONS[0].parent / "README.md").read_text()
    for page in DECISIONS:
        head = DECISION.match(page.read_text())
        assert head, f"{page.name} begins otherwise than docs/decisions/README.md shows"
        assert page.name.startswith(head["number"])
        assert f"* [{head['number']}]({page.name}) {head['title']}\n" in listed
    assert len({page.name[:4] for page in DECISIONS}) == len(DECISIONS), "a number stands twice"


def test_the_map_of_the_house_names_what_is_there() -> None:
    base, named = "", []
    for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines():
        if heading := re.match(r"\*\*(?:`(.+)`)?", line):
            base = heading[1] or ""
        elif line.startswith("| `"):
            named += [f"{base}{name}" for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert "runtime/wan_runtime/data/" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_front_page_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90
