"""What is said through the page, by one tab, two, or other processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.testclient import TestClient
from tab import HOST, TOKEN, Page

from phyla.app import application
from phyla.project import Project


def sizes(page: Page, by: str = "group") -> dict[str, int]:
    return {card["of"]: card["size"] for card in page.get("cards", by=by)}


def test_name_merge_and_undo(page: Page) -> None:
    assert page.say("name", group=0, name=" grün ") == 0
    assert page.get("cards", by="group")[0]["name"] == "grün"
    page.say("merge", groups=[0, 1], name="both")
    assert [card["name"] for card in page.get("cards", by="group")] == ["both", "both", None]
    assert page.say("undo") == 2
    assert [card["name"] for card in page.get("cards", by="group")] == ["grün", None, None]
    assert page.get("summary")["can_redo"]
    page.say("redo")
    assert [card["name"] for card in page.get("cards", by="group")] == ["both", "both", None]
    page.say("undo", seq=0)
    past = page.get("history")
    assert [edit["op"] for edit in past] == ["undo", "undo", "undo", "merge", "name"]
    assert past[-1]["undone"] and not past[-2]["undone"] and past[-2]["name"] == "both"


def test_rows_of_an_older_view_are_not_taken_for_those_of_this(page: Page) -> None:
    view = page.get("summary")["view"]
    Project(page.project.folder).sort(backbone=["fake"], groups=4, threads=1, report=False)  # another process, say
    assert page.get("summary")["view"] != view
    for edit in ({"op": "name", "group": 0, "name": "x"}, {"op": "remove", "rows": [1]}):
        assert "sorted anew" in page.refused("edits", edit | {"view": view}, 409)
    page.say("remove", rows=[1], view=page.get("summary")["view"])


def test_nothing_to_undo_or_redo(page: Page) -> None:
    page.refused("edits", {"op": "undo"}, 409)
    page.refused("edits", {"op": "redo"}, 409)
    page.refused("edits", {"op": "undo", "seq": 0}, 404)


def test_a_split_makes_the_parts_that_the_preview_shows(page: Page) -> None:
    parts = page.post("preview", {"group": 1, "parts": 2})
    shown = [set(page.array("rows", of=part["of"], order="typical").tolist()) for part in parts]
    page.say("split", group=1, names=["larger", "smaller"])
    made = [set(page.array("rows", of=f"class:{name}", order="typical").tolist()) for name in ("larger", "smaller")]
    assert made == shown and [len(part) for part in shown] == [part["size"] for part in parts]
    assert sizes(page).keys() == {"group:0", "group:2", "apart:larger", "apart:smaller"}
    page.say("undo")
    assert sizes(page).keys() == {"group:0", "group:1", "group:2"}


def test_moved_images_leave_their_group(page: Page) -> None:
    before = sizes(page)
    rows = page.array("rows", of="group:0", order="typical")[-3:].tolist()  # the odd ones
    page.say("move", rows=rows, name="elsewhere")
    after = sizes(page)
    assert after["group:0"] == before["group:0"] - 3 and after["apart:elsewhere"] == 3
    assert page.get(f"image/{rows[0]}")["origin"] == "person"
    assert page.get("summary")["answers"] == 3


def test_answers_suggest_a_name(page: Page) -> None:
    rows = page.array("rows", of="group:2", order="typical")[:2].tolist()
    page.say("confirm", rows=rows, name="blue")
    card = page.get("cards", by="group")[2]
    assert card["suggestion"] == "blue" and card["confirmed"] == 2 and card["name"] is None
    page.say("name", group=2, name="blue")
    assert page.get("cards", by="group")[2]["suggestion"] is None


def test_removed_images_are_nowhere(page: Page) -> None:
    page.say("remove", rows=[3, 4])
    told = page.get("summary")
    assert told["removed"] == 2 and sum(sizes(page).values()) + told["unsorted"] == 118
    assert sorted(page.array("rows", of="removed", order="name").tolist()) == [3, 4]
    assert len(page.array("rows", of="all", order="typical")) == 118
    assert page.get("image/3")["origin"] == "removed"
    page.say("undo")
    assert page.get("summary")["removed"] == 0


def test_rejected(page: Page) -> None:
    page.say("name", group=0, name="green")
    row = int(page.array("rows", of="group:0", order="typical")[0])
    page.say("reject", rows=[row], name="green")
    assert page.get(f"image/{row}")["name"] is None


@pytest.mark.parametrize("op", ["confirm", "move", "reject"])
@pytest.mark.parametrize(
    "rows, status",
    [
        ([], 400), (None, 400), ("0", 400), ([True], 400), ([0.0], 400), (["0"], 400), ([[0]], 400), ([None], 400),
        ({"0": 0}, 400), ([-1], 404), ([120], 404), ([10**30], 400), ([0, 2**40], 404),
    ],
)  # fmt: skip
def test_unknown_rows(page: Page, op: str, rows: object, status: int) -> None:
    page.refused("edits", {"op": op, "rows": rows, "name": "x"}, status)


@pytest.mark.parametrize(
    "name", ["", "  ", None, 7, ["x"], "x" * 10_000, "a\x00b", "a\nb", "\x1b[2J", "a\u202eb", "a\u2028b"]
)
def test_names_that_are_refused(page: Page, name: object) -> None:
    for edit in (
        {"op": "name", "group": 0, "name": name},
        {"op": "merge", "groups": [0, 1], "name": name},
        {"op": "move", "rows": [0], "name": name},
        {"op": "split", "group": 0, "names": ["fine", name]},
    ):
        error = page.refused("edits", edit, 400)
        assert len(error) < 200
    if name == "x" * 10_000:
        assert "10,000 characters" in error


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "</script><script>", "'; --", "=1+1", "日本 👩‍🚀", "%2e%2e/", "a" * 200]
)
def test_odd_names_are_data(page: Page, name: str) -> None:
    page.say("name", group=0, name=name)
    answer = page.client.get("/api/cards?by=group")
    assert answer.headers["content-type"] == "application/json" and answer.json()[0]["name"] == name
    assert len(page.array("rows", of=f"class:{name}", order="typical")) >= 40
    assert "name" in page.client.post("/api/export", json={"of": f"class:{name}", "format": "csv"}).text


@pytest.mark.parametrize(
    "edit", [{}, {"op": None}, {"op": "import"}, {"op": "drop"}, {"op": ["name"]}, {"op": "keep", "rows": [0]}]
)
def test_unknown_edits(page: Page, edit: object) -> None:
    page.refused("edits", edit, 400)


@pytest.mark.parametrize("group", [-1, 3, None, "0x0", 1.5, True, [0]])
def test_unknown_groups(page: Page, group: object) -> None:
    page.refused("edits", {"op": "name", "group": group, "name": "x"}, 404)
    page.refused("edits", {"op": "merge", "groups": [0, group], "name": "x"}, 404)
    page.refused("preview", {"group": group, "parts": 2}, 404)


@pytest.mark.parametrize("parts", [0, 1, -2, 10**9, "two", None])
def test_unknown_parts(page: Page, parts: object) -> None:
    page.refused("preview", {"group": 0, "parts": parts}, 400)


def test_two_tabs_and_another_process_lose_nothing(page: Page) -> None:
    other_server = application(Project(page.project.folder), token=TOKEN, hosts=[HOST])
    with TestClient(other_server, base_url=f"http://{HOST}", headers={"Origin": f"http://{HOST}"}) as client:
        client.get("/", params={"token": TOKEN})
        other = Page(client, page.project)

        def talk(number: int) -> None:
            (page if number % 2 else other).say("move", rows=[number], name=f"class {number % 5}")

        with ThreadPoolExecutor(8) as tabs:
            list(tabs.map(talk, range(60)))
        for tab in (page, other):
            told = tab.get("summary")
            assert told["seq"] == 60 and told["answers"] == 60
        client.app.state.server.jobs.wait(60)
    edits = Project(page.project.folder).edits
    assert [edit.seq for edit in edits] == list(range(60))
    assert {edit.ids[0] for edit in edits} == set(page.project.images.ids[:60].tolist())
