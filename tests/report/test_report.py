from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from phyla.report import _map, render
from phyla.types import Grouping, Images, PhylaError, Recipe

HOSTILE = "\"><script>alert(1)</script>'&$title\u202egpj.exe\x00\udcff"


class Page(HTMLParser):
    """What a browser would make of the page: every tag with its attributes, and whether each tag is closed."""

    VOID = ("meta", "link", "img", "rect", "image", "path")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag, css=None):
        return [a for t, a in self.tags if t == tag and (css is None or a.get("class") == css)]


def collection(labels, *, uri="photo", broken=()):
    """Keyword arguments of `render` for one plain picture a label."""
    labels = np.array(labels, np.int32)
    n, rng = len(labels), np.random.default_rng(0)

    def open_(row, at_least):
        if row in broken:
            raise PhylaError("gone")
        return np.full((20 + row, 32, 3), (row * 7) % 256, np.uint8)

    uris = np.array([f"{uri}-{i}.jpg" for i in range(n)], dtype=str)
    side = np.full(n, 32, np.int32)
    strength = rng.random(n, np.float32)
    groups = len(set(labels.tolist()) - {-1})
    return {
        "title": "Test",
        "summary": {"images": n + 3, "unique": n, "copies": 1, "unreadable": 2, "groups": groups,
                    "unsorted": int((labels == -1).sum()), "backbones": ["lite"], "source": "folder"},
        "images": Images(uris, uris, side, side, open_),
        "grouping": Grouping(labels, np.maximum(labels, 0), strength, {}, Recipe("cluster", "fake")),
        "names": {},
        "typicality": strength,
        "points": rng.normal(size=(n, 2)).astype(np.float32),
        "unreadable": [("a.jpg", "empty")],
        "explanation": "Because.",
    }  # fmt: skip


def test_the_page_shows_everything_in_order_of_size():
    html = render(**collection([0] * 20 + [2] * 30 + [-1] * 40) | {"names": {2: "Cats"}})
    page = Page(html)
    assert page.open == []
    assert [a["id"] for a in page.all("article")] == ["group-2", "group-0"]
    assert [a["href"] for a in page.all("a")] == ["#group-2", "#group-0"]
    assert len(page.all("img")) == 2 * (12 + 4) + 24
    for text in ("93 images in 2 groups: 40 left unsorted, 2 unreadable, 1 exact copy.", "Cats", "Group 0", "Because."):
        assert text in page.text
    assert all(a["alt"] and a["title"] for a in page.all("img"))
    assert re.findall(r"<h\d", html)[:3] == ["<h1", "<h2", "<h3"]


def test_of_labels_that_were_spread_it_speaks_as_of_classes():
    evidence = [[2, 0.5], [4, 0.9], [8, 0.7]]
    arguments = collection([0] * 20 + [1] * 30 + [-1] * 40) | {"names": {0: "Cats", 1: "Dogs"}, "evidence": evidence}
    arguments["summary"] |= {"removed": 5}
    text = Page(html := render(**arguments, spread=True, n_groups=8)).text
    for part in ("93 images in 2 classes: 40 waiting for a person, 5 removed, 2", "Classes", "Sureness", "Waiting for"):
        assert part in text
    for part in ("Groups", "Agreement", "nsorted", "group 0", "in 2 groups"):
        assert part not in text
    assert re.search(r'class="chosen" r="7"><title>8:', html), "the number that was taken, not that of the classes"


def test_twice_the_same_bytes():
    first, second = (render(**collection([0, 1, -1] * 9)) for _ in range(2))
    assert first == second


def test_nothing_is_fetched():
    page = Page(render(**collection([0, 1, -1] * 9, uri="https://evil.example/x")))
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert attributes.get(name, "#").startswith(("data:", "#")), (tag, name)
        assert "url(" not in attributes.get("style", "") and not any(a.startswith("on") for a in attributes)
    assert not page.all("script")


def test_hostile_text_stays_text():
    arguments = collection([0, 1, -1] * 9, uri=HOSTILE, broken={0, 3})
    arguments |= {"title": HOSTILE, "explanation": HOSTILE, "names": {0: HOSTILE}, "unreadable": [(HOSTILE, HOSTILE)]}
    arguments["summary"] |= {"source": HOSTILE, "backbones": [HOSTILE]}
    html = render(**arguments)
    page = Page(html)
    html.encode("utf-8")
    assert page.open == [] and not page.all("script")
    assert "\u202e" not in html and "\x00" not in html
    assert page.text.count("\"><script>alert(1)</script>'&$title\ufffdgpj.exe\ufffd\ufffd") >= 6


def test_an_image_that_fails_leaves_a_placeholder():
    page = Page(render(**collection([0] * 6 + [1] * 6, broken={2, 7})))
    assert len(page.all("img")) == 10
    assert sorted(a["title"] for a in page.all("span", "lost")) == ["photo-2.jpg", "photo-7.jpg"]


def test_a_long_list_of_unreadable_files_is_cut():
    page = Page(render(**collection([0]) | {"unreadable": [(f"{i}.jpg", "empty") for i in range(1500)]}))
    assert len(page.all("tr")) == 201 and "1,300 more are not shown" in page.text


@pytest.mark.parametrize("labels", [[], [0], [-1], [-1, -1, -1], [5, 5], [0, 1]])
def test_tiny(labels):
    assert Page(render(**collection(labels))).open == []


def test_all_points_in_one_place():
    arguments = collection([0, 1, 2, -1])
    assert Page(render(**arguments | {"points": np.ones((4, 2), np.float32)})).open == []


def test_labels_keep_off_each_other_and_inside_the_map():
    rng = np.random.default_rng(0)
    xy = _map.fit(rng.normal(size=(500, 2)).astype(np.float32))
    sizes = np.full((12, 2), (110.0, 96.0))
    centres = _map.place(xy[:12], sizes, xy)
    apart = np.abs(centres[:, None] - centres[None]) >= sizes[0] - 1e-6
    assert (apart.any(axis=2) | np.eye(12, dtype=bool)).all()
    assert (centres >= sizes / 2).all() and (centres <= [_map.WIDTH, _map.HEIGHT] - sizes / 2).all()


def test_colours_stay_apart():
    colours = _map.palette(24).astype(int)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 999 * np.eye(24)
    assert gaps.min() > 20, f"closest two of 24 colours: {gaps.min():.0f} of 441"
