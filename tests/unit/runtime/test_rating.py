"""The rating page's server, with a real store."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from object_store import ObjectStore
from rating_panels import Material, RunningPage
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.store import ArtifactCorrupt, Store
from wan_runtime.evaluation.rating.judgements import Judgements
from wan_runtime.evaluation.rating.links import Links
from wan_runtime.evaluation.rating.panel import Panel
from wan_runtime.evaluation.records import Rating

MARKS = {"dynamics": 4, "camera_control": 3, "frame_quality": 5, "accuracy": 2}


@pytest.fixture
def material(store: Store, tmp_path: Path) -> Material:
    return Material(store, f"rating-{uuid4().hex[:8]}", tmp_path)


@pytest.fixture
def serve() -> Iterator[Callable[[Panel], RunningPage]]:
    with ExitStack() as stack:
        yield lambda panel: stack.enter_context(RunningPage(panel))


@pytest.fixture
def page(material: Material, serve: Callable[[Panel], RunningPage]) -> RunningPage:
    return serve(material.panel("ratings"))


def items_of(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("session").json()["items"]
    return found


def save(http: httpx.Client, item: str, **marks: int) -> httpx.Response:
    return http.put(f"judgements/{item}", json={"scores": {**MARKS, **marks}})


def stored(material: Material) -> list[str]:
    found = material.store.list(f"{material.prefix}/ratings/")
    return [info.key for info in found if not info.key.endswith("links.json")]


def test_a_judgement_is_one_object_before_it_is_saved(
    page: RunningPage, material: Material
) -> None:
    with page.http() as http:
        first, *rest = items_of(http)
        assert (first["answer"], first["videos"], len(rest)) == (None, 1, 3)
        assert save(http, first["id"]).json() == {"saved": True}
        assert save(http, first["id"], dynamics=1).status_code == 200
        assert items_of(http)[0]["answer"] == {"scores": {**MARKS, "dynamics": 1}}
    (key,) = stored(material)
    kept = json.loads(material.store.get_bytes(key))
    assert (kept["rater"], kept["scores"]["dynamics"], kept["repeat"]) == ("ann", 1, False)
    assert page.panel.judgements.count == 1


def test_what_the_store_does_not_have_is_not_saved(
    page: RunningPage, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put_bytes
    for lost in (lambda *_, **__: None, lambda store, key, data, **_: put(store, key, b"{}")):
        with page.http() as http, monkeypatch.context() as patch:
            item = items_of(http)[0]["id"]
            patch.setattr(Store, "put_bytes", lost)
            assert save(http, item).status_code == 503
            assert items_of(http)[0]["answer"] is None
            patch.undo()
            assert save(http, items_of(http)[1]["id"]).is_success
    assert (page.saved, page.panel.judgements.count) == (2, 1)


def test_another_process_goes_on_where_the_rater_was(
    page: RunningPage, material: Material, serve: Callable[[Panel], RunningPage]
) -> None:
    with page.http() as http:
        ids = [item["id"] for item in items_of(http)]
        save(http, ids[0])
    other = serve(material.panel("ratings", raters=["ann", "eve"]))
    assert other.link("ann").endswith(page.link("ann")[-25:])
    with other.http() as http:
        found = items_of(http)
        assert [item["id"] for item in found] == ids
        assert [item["answer"] is None for item in found] == [False, True, True, True]
        for id in ids[1:]:
            save(http, id)
    with other.http("eve") as http:
        for item in items_of(http):
            save(http, item["id"])
    ratings = other.panel.judgements.ratings()
    assert (ratings.complete, ratings.raters) == (True, ("ann", "eve"))
    assert len({(each.rater, each.clip, each.candidate) for each in ratings.ratings}) == 8
    with page.http("bob") as http:  # no longer invited
        assert http.get(other.link("ann").replace("/rate/", "/rate/x")).status_code == 404


def test_links_that_are_not_known(page: RunningPage) -> None:
    token = page.panel.links.raters["ann"]
    assert len(token) == 22, "128 bits"
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    with httpx.Client(base_url=page.url, verify=False) as http:
        for wrong in (flipped, token[:-1], f"{token}x", "%F0%9F%98%80", page.panel.links.admin):
            document = http.get(f"/rate/{wrong}/")
            assert document.status_code == 404
            assert "This link is not known" in document.text
            assert http.get(f"/rate/{wrong}/session").status_code == 404
            item = page.panel.plan["ann"][0].id
            assert http.get(f"/rate/{wrong}/media/{item}/0.mp4").status_code == 404
            answer = http.put(f"/rate/{wrong}/judgements/{item}", json={"scores": MARKS})
            assert answer.json()["message"].startswith("this link is not known")
        for path in (f"/admin/{token}/", f"/admin/{token}/progress", f"/other/{token}/"):
            assert http.get(path).status_code == 404
        assert http.get("/readyz").text == "ok\n"
        assert http.get(f"/rate/{token}").headers["Location"] == f"{token}/"
    assert page.panel.judgements.count == 0


def test_nothing_names_a_candidate(page: RunningPage) -> None:
    admin = f"{page.url}/admin/{page.panel.links.admin}/"
    with page.http() as http:
        items = items_of(http)
        said = [http.get("session").text, httpx.get(f"{admin}progress", verify=False).text]
        media = [http.get(f"media/{item['id']}/0.mp4") for item in items]
        said += [str(answer.headers) for answer in media]
    assert not re.search("base|ours|clip-", " ".join(said))
    raters = httpx.get(f"{admin}progress", verify=False).json()["raters"]
    assert [(each["name"], each["done"], each["total"]) for each in raters] == [
        ("ann", 0, 4), ("bob", 0, 4)
    ]  # fmt: skip


def test_videos_come_in_ranges(page: RunningPage, material: Material) -> None:
    item = page.panel.plan["ann"][0]
    video = item.sides[0].video
    whole = material.store.get_bytes(material.store.parse(video.uri)[1])
    with page.http() as http:
        place = f"media/{item.id}/0.mp4"
        answer = http.get(place, headers={"Range": "bytes=100-199"})
        assert (answer.status_code, answer.content) == (206, whole[100:200])
        assert answer.headers["Content-Type"] == "video/mp4"
        assert http.get(place).content == whole
        assert http.get(place, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
        assert http.get(f"media/{item.id}/first-frame.png").content[1:4] == b"PNG"
        assert http.get(f"media/{item.id}/1.mp4").status_code == 404
        material.store.put_bytes(material.store.parse(video.uri)[1], whole[:-1])
        assert "no longer in the store as it was" in http.get(place).json()["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"scores": {**MARKS, "dynamics": 6}}, "must be at most 5, not 6"),
        ({"scores": {"dynamics": 3}}, "has no camera_control and no frame_quality and no accuracy"),
        ({"scores": {**MARKS, "beauty": 3}}, "must be dynamics, camera_control"),
        ({"chosen": "Left"}, "scores: is missing"),
        ({"scores": MARKS, "more": "x" * 5000}, "at most 4096 bytes"),
    ],
)
def test_what_is_no_judgement(page: RunningPage, body: dict[str, Any], said: str) -> None:
    with page.http() as http:
        item = items_of(http)[0]["id"]
        answer = http.put(f"judgements/{item}", json=body)
        assert answer.status_code in (400, 413)
        assert said in answer.json()["message"]
        assert http.put(f"judgements/{'0' * 32}", json={"scores": MARKS}).status_code == 410
        assert items_of(http)[0]["answer"] is None


def test_pairs_know_how_they_stood(
    material: Material, serve: Callable[[Panel], RunningPage]
) -> None:
    page = serve(material.panel("ratings", mode="Pairs", raters=["ann"]))
    with page.http() as http:
        for item, chosen in zip(items_of(http), ("Left", "BothBad"), strict=True):
            assert item["videos"] == 2
            assert http.put(f"judgements/{item['id']}", json={"chosen": chosen}).is_success
    ratings = page.panel.judgements.ratings()
    plan = page.panel.plan["ann"]
    assert [(each.left, each.chosen) for each in ratings.choices] == [
        (plan[0].sides[0].candidate, "Left"), (plan[1].sides[0].candidate, "BothBad")
    ]  # fmt: skip
    # The sides stand the other way round than when it was chosen.
    item = plan[0]
    turned = replace(item, sides=item.sides[::-1])
    other = serve(replace(page.panel, plan={"ann": (turned,)}))
    with other.http() as http:
        assert items_of(http)[0]["answer"] == {"chosen": "Right"}


def test_an_absent_store_is_said_and_survived(
    tmp_path: Path, credentials: None, serve: Callable[[Panel], RunningPage],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with ObjectStore(tmp_path / "own") as server:
        store = Store.connect(server.spec(), patience=Patience(seconds=0))
        page = serve(Material(store, "outage", tmp_path, clips=1).panel("ratings"))
        with page.http() as http, caplog.at_level(logging.DEBUG, "wan_runtime"):
            item = items_of(http)[0]["id"]
            server.kill()
            answer = save(http, item)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
            assert "your choice is kept" in answer.json()["message"]
            assert http.get(f"media/{item}/0.mp4").status_code == 503
            assert page.panel.judgements.count == 0
            server.start()
            assert save(http, item).is_success
        assert page.panel.judgements.count == 1
        tokens = (page.panel.links.admin, *page.panel.links.raters.values())
        assert caplog.text
        assert not any(token in caplog.text for token in tokens)


def test_the_first_start_and_the_links_are_kept(material: Material) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    prefix = f"{material.prefix}/ratings"
    first = Links.opened_at(material.store, prefix, ["ann"], now)
    second = Links.opened_at(material.store, prefix, ["bob"], datetime.now(UTC))
    assert (second.opened, second.admin) == (now, first.admin)
    assert second.raters["ann"] == first.raters["ann"]
    assert second.rater(first.raters["ann"], ["bob"]) is None
    assert len({second.admin, *second.raters.values()}) == 3
    material.store.put_bytes(f"{prefix}/links.json", b'{"opened": "yesterday"}')
    with pytest.raises(ArtifactCorrupt, match="restore it, or delete it"):
        Links.opened_at(material.store, prefix, ["ann"], now)


def test_a_damaged_object_is_judged_again(page: RunningPage, material: Material) -> None:
    with page.http() as http:
        save(http, items_of(http)[0]["id"])
    (key,) = stored(material)
    material.store.put_bytes(key, b"{}")
    again = Judgements(material.store, f"{material.prefix}/ratings", "Scores", page.panel.plan)
    assert (again.count, again.ratings().complete) == (0, False)


def test_equal_videos_of_two_clips_are_judged_once(material: Material) -> None:
    """As a folder of ready videos may have them: nobody is waited for until the deadline."""
    one, two = material.clips
    material.clips[1] = two.model_copy(update={"prompt": one.prompt})
    (ours,) = (each for each in material.videos if (each.clip, each.candidate) == (one.id, "ours"))
    material.videos[:] = [ours, ours.model_copy(update={"clip": two.id})]
    panel = material.panel("equal", raters=["ann"])
    (item,) = panel.items["ann"].values()
    now = datetime.now(UTC)
    assert (panel.total, panel.is_over(now)) == (1, False)
    rating = Rating(rater="ann", clip=one.id, candidate="ours", scores=MARKS, time=now)
    panel.judgements.save(material.store, "ann", item, rating)
    assert panel.is_over(now)
    found = panel.judgements.ratings()
    assert ({each.clip for each in found.ratings}, found.complete) == ({one.id, two.id}, True)
