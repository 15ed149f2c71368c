"""Every path that shows something."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tab import HOST, Page

from phyla import sources

N = 120  # pictures of the small project


def test_the_page_and_its_files(page: Page) -> None:
    answer = page.client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8" and "page.js" in answer.text
    assert page.client.get("/page.js").headers["content-type"] == "text/javascript; charset=utf-8"


def test_the_summary_has_what_the_page_reads(page: Page) -> None:
    told = page.get("summary")
    text = (Path(__file__).parents[2] / "web/src/api.ts").read_text()
    block = text[text.index("export interface Summary {") :]
    fields = {line.split(":")[0].strip() for line in block[: block.index("\n}")].splitlines()[1:]}
    assert told.keys() == fields
    assert (told["images"], told["files"], told["groups"], told["seq"]) == (N, N, 3, 0)
    assert told["mapped"] and not told["audited"] and not told["can_undo"] and not told["read_only"]


def test_cards_of_groups(page: Page) -> None:
    cards = page.get("cards", by="group")
    assert sum(card["size"] for card in cards) + page.get("summary")["unsorted"] == N
    assert sorted(card["place"] for card in cards) == [0, 0.5, 1]
    for card in cards:
        rows = page.array("rows", of=card["of"], order="typical")
        assert card["typical"] == rows[:12].tolist() and len(rows) == card["size"]
    assert page.get("cards", by="class") == []


def test_similar_groups_lie_next_to_each_other() -> None:
    from phyla._tree import in_line

    along = np.array([[3.0], [0.0], [2.0], [1.0]])
    order = np.argsort(in_line(along))
    assert along[order, 0].tolist() in ([0, 1, 2, 3], [3, 2, 1, 0])


@pytest.mark.parametrize("order", ["typical", "uncertain", "name", "time"])
def test_orders_hold_the_same_rows(page: Page, order: str) -> None:
    rows = page.array("rows", of="all", order=order)
    assert sorted(rows.tolist()) == list(range(N))
    if order == "name":
        assert rows.tolist() == list(range(N))
    if order == "uncertain":
        assert (np.diff(page.project.grouping.strength[rows]) >= 0).all()


@pytest.mark.parametrize(
    "of",
    ["", "all2", "group:", "group:3", "group:-1", "group:1.5", "class:none", "tree:g9", "tree:../x", "part:0:2",
     "part:0:1:0", "part:0:99:0", "\x00", "class:" + "x" * 10_000],
)  # fmt: skip
def test_unknown_selectors(page: Page, of: str) -> None:
    answer = page.client.get("/api/rows", params={"of": of, "order": "typical"})
    assert answer.status_code in (400, 404) and len(answer.text) < 500


def test_one_image(page: Page) -> None:
    told = page.get("image/5")
    assert told["uri"] == str(page.project.images.uris[5]) and told["copies"] == []
    assert (told["width"], told["height"], told["origin"], told["accepted"]) == (24, 24, "", True)
    assert told["group"] == page.project.grouping.labels[5]


def test_arrays(page: Page) -> None:
    assert page.array("array/groups").tolist() == page.project.grouping.labels.tolist()
    assert set(page.array("array/labels").tolist()) == {-1}
    points = page.array("array/points", "<f4")
    assert len(points) == 2 * N and np.abs(points).max() == pytest.approx(1, abs=1e-5)
    assert len(page.array("array/strength", np.uint8)) == len(page.array("array/severity", np.uint8)) == N
    assert page.client.get("/api/array/X").status_code == 404


def test_labels_count_in_the_classes_of_the_summary(page: Page) -> None:
    page.say("name", group=1, name="blue")
    page.say("confirm", rows=[0], name="only once said")
    page.say("confirm", rows=[0], name="green")  # so that a class has no image any more
    classes, labels = page.get("summary")["classes"], page.array("array/labels")
    assert [of["images"] for of in classes] == np.bincount(labels[labels >= 0]).tolist()
    assert classes[labels[0]]["name"] == "green"


def test_the_tree_reaches_every_picture(page: Page) -> None:
    def below(key: str) -> list[int]:
        node = page.get("tree", key=key)
        if node["rows"] is not None:
            assert node["size"] == len(node["rows"])
            return node["rows"]
        found = []
        for child in node["children"]:
            found += child["rows"] if child["rows"] is not None else below(child["key"])
        return found

    root = page.get("tree")
    assert root["size"] == N and root["of"] == "all"
    assert sorted(below("")) == list(range(N))
    group = page.get("tree", key="g0")
    assert group == page.get("tree", key="g0")
    for part in group["children"]:
        rows = page.array("rows", of=part["of"], order="typical")
        assert len(rows) == part["size"]


@pytest.mark.parametrize("key", ["g9", "g", "m99", "g0.9", "g0.x", "g0..0", "u.0.0.0", "../..", "g" + "9" * 500])
def test_unknown_nodes(page: Page, key: str) -> None:
    assert page.client.get("/api/tree", params={"key": key}).status_code == 404


def colours_of(page: Page, rows: list[int]) -> set[str]:
    return {Path(str(page.project.images.uris[row])).name.partition("_")[0] for row in rows}


def rows_called(page: Page, colour: str) -> list[int]:
    return [row for row, uri in enumerate(page.project.images.uris) if Path(str(uri)).name.startswith(colour)]


def test_what_is_alike_is_of_one_colour(page: Page) -> None:
    red = rows_called(page, "red")
    found = page.post("search", {"like": {"rows": red[:3]}, "n": 20})
    assert len(found) == 20 and not set(found) & set(red[:3])
    assert colours_of(page, found) == {"red"}
    page.say("remove", rows=found[:5])
    assert not set(page.post("search", {"like": {"rows": red[:3]}, "n": 20})) & set(found[:5])


def test_pictures_are_searched_by_as_what_came_back_for_them(page: Page, tmp_path: Path) -> None:
    own = Path(str(page.project.images.uris[7])).read_bytes()
    other = io.BytesIO()
    Image.open(io.BytesIO(own)).resize((48, 48)).save(other, "PNG")
    given = [
        page.client.post("/api/search/picture", content=data).json()["picture"] for data in (own, other.getvalue())
    ]
    by_row = page.post("search", {"like": {"rows": [7]}, "n": 12})
    assert page.post("search", {"like": {"pictures": given[:1]}, "n": 12}) == by_row  # the project has this very file
    assert 7 in page.post("search", {"like": {"pictures": given[1:]}, "n": 40})
    green = rows_called(page, "green")
    away = page.post("search", {"like": {"rows": green[:2]}, "without": {"pictures": given}, "n": 12})
    assert colours_of(page, away) == {"green"}


def test_what_is_no_picture_is_told(page: Page) -> None:
    data = Path(str(page.project.images.uris[7])).read_bytes()
    for broken in (b"", b"no picture", data[:40]):
        answer = page.client.post("/api/search/picture", content=broken)
        assert answer.status_code == 400 and answer.json()["ok"] is False
    assert "Give it again" in page.client.post("/api/search", json={"like": {"pictures": ["0"]}}).json()["hint"]
    page.refused("search", {"like": {"pictures": ["0"]}}, 404)


def test_pictures_of_long_ago_are_forgotten(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phyla.app._server._PICTURES_KEPT", 2)
    for row in (0, 50, 100):
        data = Path(str(page.project.images.uris[row])).read_bytes()
        last = page.client.post("/api/search/picture", content=data).json()["picture"]
        page.post("search", {"like": {"pictures": [last]}})
    assert len(page.client.app.state.server.seen) == 2


def test_words_find_what_they_name(page: Page) -> None:
    assert colours_of(page, page.post("search", {"words": "blue", "n": 10})) == {"blue"}
    assert page.get("summary")["reads_words"]
    for wrong in (
        {"words": " "}, {"words": "x" * 10_000}, {}, {"minus": "blue"}, {"without": {"rows": [3]}}, {"like": [3]},
        {"like": {"rows": "3"}}, {"like": {"pictures": [3]}}, {"words": 3},
    ):  # fmt: skip
        page.refused("search", wrong, 400)
    page.refused("search", {"like": {"rows": [N]}}, 404)


def test_words_need_a_network_that_reads(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phyla._searching.words_of", lambda *told: None)
    assert "read words" in page.refused("search", {"words": "a dog"}, 400)
    assert not page.get("summary")["reads_words"]


def test_thumbnails_show_the_whole_picture(page: Page) -> None:
    for side, shown in ((96, 96), (192, 96), (384, 96)):  # 24 pixels are enlarged four times at most
        answer = page.client.get("/thumb/3", params={"side": side, "v": page.project.view})
        assert answer.headers["content-type"] == "image/webp" and "immutable" in answer.headers["cache-control"]
        assert Image.open(io.BytesIO(answer.content)).size == (shown, shown)
    again = page.client.get(
        "/thumb/3", params={"side": 96}, headers={"If-None-Match": f'"{page.project.images.ids[3]}-96"'}
    )
    assert again.status_code == 304 and again.headers["cache-control"] == "no-cache"
    assert page.client.get("/thumb/3", params={"side": 97}).status_code == 400


def test_a_picture_comes_as_it_is(page: Page) -> None:
    answer = page.client.get("/picture/3")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == Path(str(page.project.images.uris[3])).read_bytes()


def test_a_lost_picture_is_told(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: object, uri: str) -> bytes:
        raise FileNotFoundError(2, "No such file", uri)

    monkeypatch.setattr(type(sources.open_source(page.project.show()["source"])), "read", lost)
    for path in ("/thumb/9?side=96", "/picture/9"):
        assert page.client.get(path).status_code == 410


def test_questions(page: Page) -> None:
    asked = page.get("ask", n=3)
    assert len({question["row"] for question in asked}) == 3 and all(question["why"] for question in asked)
    page.say("confirm", rows=[asked[0]["row"]], name="red")
    assert asked[0]["row"] not in {question["row"] for question in page.get("ask", n=5)}
    for n in (0, -1, 10**6, "x", "1.5"):
        assert page.client.get("/api/ask", params={"n": n}).status_code == 400


def test_export_of_a_selection(page: Page) -> None:
    page.say("name", group=0, name="../../a/b<i>")
    size = page.get("cards", by="group")[0]["size"]
    table = page.client.post("/api/export", json={"of": "group:0", "format": "csv"})
    assert table.headers["content-disposition"] == 'attachment; filename="project.csv"'
    lines = table.text.splitlines()
    assert lines[0].startswith("uri,group,name") and len(lines) == 1 + size
    archive = page.client.post("/api/export", json={"rows": [0, 1, 5], "format": "zip"})
    names = zipfile.ZipFile(io.BytesIO(archive.content)).namelist()
    assert len(names) == 3 and not any(name.startswith(("/", "..")) or "/../" in name for name in names)
    import pyarrow.parquet as pq

    parquet = page.client.post("/api/export", json={"of": "all", "format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == N
    page.refused("export", {"of": "all", "format": "exe"}, 400)
    page.refused("export", {"of": "group:77", "format": "csv"}, 404)
    page.refused("export", {"rows": [N], "format": "csv"}, 404)


def test_what_is_not_there(page: Page) -> None:
    for path in ("/api/nothing", "/nothing.js", "/api/", "/thumb/"):
        answer = page.client.get(path)
        assert answer.status_code == 404 and json.loads(answer.text)["ok"] is False
    assert page.client.get("/api/edits").status_code == 405
    assert page.client.base_url.netloc == HOST.encode()


def test_why_an_image_is_what_it_is(page: Page) -> None:
    for group, name in enumerate(("one", "two", "three")):
        page.project.name(group, name)
    row = page.get("cards", by="group")[0]["typical"][0]
    told = page.get(f"why/{row}")
    text = (Path(__file__).parents[2] / "web/src/api.ts").read_text()
    block = text[text.index("export interface Why {") :]
    fields = {line.split(":")[0].strip() for line in block[: block.index("\n}")].splitlines()[1:]}
    assert fields <= told.keys()
    assert told["name"] == "one" and told["rival"] in ("two", "three") and told["lead"] > 0 and not told["looks"]
    assert all(of["row"] in page.array("rows", of="class:one") for of in told["prototypes"])
    before = told["lead"]
    page.say("move", rows=[of["row"] for of in told["prototypes"][:3]], name=told["rival"])
    assert page.get(f"why/{row}")["lead"] < before
    assert page.client.get("/api/why/120").status_code == 404


def test_what_a_group_is_and_what_tells_it_apart(page: Page) -> None:
    told = page.get("about", of="group:1")
    assert [one["row"] for one in told["typical"]] == page.array("rows", of="group:1")[:6].tolist()
    assert {one["row"] for one in told["near"]}.isdisjoint(page.array("rows", of="group:1").tolist())
    told = page.get("apart", of="group:1", against="group:0")
    for side, of in (("more", "group:1"), ("less", "group:0")):
        assert told[side][0]["share"] > 0.9
        assert set(told[side][0]["rows"]) <= set(page.array("rows", of=of).tolist())
    assert page.get("apart", of="group:1", against="")["less"] == []
    assert page.client.get("/api/about", params={"of": "group:9"}).status_code == 404
    assert page.client.get("/api/apart", params={"of": "group:1", "against": "class:none"}).status_code == 404


def test_heat_lies_over_the_picture(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = page.client.get("/heat/3", params={"by": "picture"})
    assert answer.status_code == 400 and "can't show where it looks" in answer.json()["error"]
    warm = np.zeros((20, 30), np.float32)
    warm[:10] = 1
    monkeypatch.setattr(type(page.project), "heat", lambda self, row, by: warm)
    told = page.get("summary")
    answer = page.client.get("/heat/3", params={"by": "class", "v": told["view"], "seq": told["seq"]})
    assert answer.headers["content-type"] == "image/webp" and "immutable" in answer.headers["cache-control"]
    with Image.open(io.BytesIO(answer.content)) as image:
        dark = np.asarray(image.convert("RGBA")).astype(int)
    assert dark.shape == (20, 30, 4) and not dark[:10, :, 3].any() and (dark[10:, :, 3] > 250).all()
    page.project.name(0, "other")  # what speaks for its name may be other places now
    answer = page.client.get("/heat/3", params={"by": "class", "v": told["view"], "seq": told["seq"]})
    assert "immutable" not in answer.headers["cache-control"]
