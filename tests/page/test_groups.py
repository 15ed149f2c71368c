"""The wall of groups, one group, history: what a person does there is said, and shown to all."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect


def cards(page: Any) -> Any:
    return page.locator(".cards").first.locator("article")


def fields(page: Any) -> Any:
    return cards(page).get_by_role("combobox")


def names(project: Any) -> dict[int, str]:
    return {card["group"]: card["name"] for card in project.cards("group") if card["name"]}


def say(field: Any, name: str) -> None:
    field.fill(name)
    field.press("Enter")


def told(page: Any, text: str) -> None:
    expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()


def open_group(shown: SimpleNamespace, of: str) -> Any:
    shown.page.evaluate("of => void (location.hash = '#/group/' + encodeURIComponent(of))", of)
    grid = shown.page.get_by_role("listbox")
    expect(grid.get_by_role("option").first).to_be_visible()
    return grid


def test_groups_are_named_with_the_keyboard_alone(shown: SimpleNamespace) -> None:
    page = shown.page
    fields(page).first.focus()
    for name in ("one", "two", "three"):  # each Enter goes on to the next group
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        told(page, f"“{name}”")
    assert sorted(names(shown.project).values()) == ["one", "three", "two"]
    expect(page.get_by_text("120 of 120 named")).to_be_visible()


def test_a_known_name_is_offered_and_taken_whatever_its_capitals(shown: SimpleNamespace) -> None:
    page = shown.page
    say(fields(page).first, "Red thing")
    told(page, "Red thing")
    fields(page).first.fill("thing")
    expect(page.get_by_role("option", name="Red thing")).to_be_visible()
    fields(page).first.press("ArrowDown")
    fields(page).first.press("Enter")
    expect(cards(page).get_by_role("heading", name="Red thing")).to_have_count(2)
    say(fields(page).first, "RED THING")
    expect(cards(page).get_by_role("heading", name="Red thing")).to_have_count(3)
    expect(page.get_by_text("120 of 120 named")).to_be_visible()
    assert set(names(shown.project).values()) == {"Red thing"}


def test_selected_groups_become_one_class(shown: SimpleNamespace) -> None:
    page = shown.page
    for box in cards(page).get_by_role("checkbox").all()[:2]:
        box.check()
    say(page.get_by_role("combobox", name="One name for the selected groups"), "colour")
    told(page, "2 groups named “colour”")
    assert sorted(names(shown.project).values()) == ["colour", "colour"]
    expect(page.get_by_role("toolbar")).to_have_count(0)


def test_a_group_dropped_on_another_joins_its_class(shown: SimpleNamespace) -> None:
    page = shown.page
    say(fields(page).first, "colour")
    told(page, "colour")
    cards(page).nth(1).locator(".faces").drag_to(cards(page).nth(0).locator(".faces"))
    told(page, "2 groups named “colour”")
    cards(page).nth(2).locator(".faces").drag_to(cards(page).nth(1).locator(".faces"))
    expect(page.get_by_text("120 of 120 named")).to_be_visible()
    assert set(names(shown.project).values()) == {"colour"}


def test_a_split_is_seen_before_it_is_made(shown: SimpleNamespace) -> None:
    page = shown.page
    cards(page).first.hover()
    cards(page).first.get_by_role("button", name="Split").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="3").click()
    expect(dialog.get_by_role("region")).to_have_count(3)
    assert shown.project.seq == 0
    dialog.get_by_role("button", name="2").click()
    expect(dialog.get_by_role("region")).to_have_count(2)
    dialog.get_by_role("combobox").first.fill("bright")
    dialog.get_by_role("button", name="Split", exact=True).click()
    told(page, "Group split into “bright”")
    page.get_by_role("button", name="Classes").click()
    expect(cards(page)).to_have_count(2)
    assert {kind["name"] for kind in shown.project.summary()["classes"]} >= {"bright"}


def test_images_are_moved_by_typing_a_name(shown: SimpleNamespace) -> None:
    page, project = shown.page, shown.project
    project.name(0, "first")
    rows = project.rows_of("group:0", "typical")
    page.reload()
    grid = open_group(shown, "group:0")
    grid.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.get_by_role("toolbar")).to_contain_text("3 images")
    page.keyboard.press("m")
    page.keyboard.type("other")
    page.keyboard.press("Enter")
    told(page, "3 images moved to “other”")
    expect(page.get_by_text(f"{len(rows) - 3} images")).to_be_visible()
    assert sorted(project.rows_of("class:other", "typical")) == sorted(rows[:3])


def test_clicks_and_a_dragged_frame_select(shown: SimpleNamespace) -> None:
    page = shown.page
    grid = open_group(shown, "all")
    selected = grid.locator("[aria-selected=true]")
    images = grid.get_by_role("option")
    images.nth(0).click()
    images.nth(2).click(modifiers=["Control"])
    expect(selected).to_have_count(2)
    images.nth(5).click(modifiers=["Shift"])
    expect(selected).to_have_count(4)
    first, last = images.nth(0).bounding_box(), images.nth(13).bounding_box()  # over two lines of eleven
    page.mouse.move(first["x"] + 5, first["y"] + 5)
    page.mouse.down()
    page.mouse.move(last["x"] + 20, last["y"] + 20, steps=4)
    page.mouse.up()
    expect(selected).to_have_count(6)
    page.keyboard.press("Escape")
    expect(selected).to_have_count(0)
    page.keyboard.press("Control+a")
    expect(page.get_by_role("toolbar")).to_contain_text("120 images")


def test_only_what_is_in_sight_is_in_the_document(shown: SimpleNamespace) -> None:
    page = shown.page
    images = open_group(shown, "all").get_by_role("option")
    page.get_by_role("slider").fill("384")
    expect(images).not_to_have_count(120)
    assert images.count() < 40
    page.get_by_role("listbox").focus()
    page.keyboard.press("End")
    expect(images.and_(page.locator("[aria-posinset='120']"))).to_be_in_viewport()
    page.keyboard.press("Home")
    expect(images.and_(page.locator("[aria-posinset='1']"))).to_be_in_viewport()


def test_small_pictures_come_a_line_at_a_time(shown: SimpleNamespace) -> None:
    page = shown.page
    grid = open_group(shown, "all")
    expect(grid.locator("img")).not_to_have_count(0)
    with page.expect_response("**/sheet?*") as response:
        page.get_by_role("slider").fill("48")
    expect(grid.locator("img")).to_have_count(0)
    assert grid.get_by_role("option").count() == 120
    asked, rows = parse_qs(urlsplit(response.value.url).query), shown.project.rows_of("all", "typical").tolist()
    line = [int(row) for row in asked["rows"][0].split(",")]
    assert line in [rows[at : at + 26] for at in range(0, 120, 26)]
    with Image.open(io.BytesIO(response.value.body())) as sheet:
        assert sheet.size == (48 * len(line), 48)
        pixels = np.asarray(sheet.convert("RGB"), float)
    for at, row in enumerate(line):  # each where it belongs: the noise of a picture is within 10, its class beyond 50
        with Image.open(io.BytesIO(shown.project.picture(row)[0])) as picture:
            shade = np.asarray(picture.convert("RGB"), float).mean((0, 1))
        assert np.abs(pixels[:, 48 * at : 48 * at + 48].mean((0, 1)) - shade).max() < 10


@pytest.mark.parametrize(
    ("asked", "status"),
    [("rows=0,1", 200), ("rows=", 400), ("rows=0,120", 400), ("rows=0&side=50", 400), ("rows=0&on=url(x)", 400),
     ("rows=" + ",".join(["0"] * 201), 400)],
)  # fmt: skip
def test_what_a_sheet_may_hold(shown: SimpleNamespace, asked: str, status: int) -> None:
    answer = shown.page.request.get(shown.address.split("?")[0] + "sheet?" + asked)
    assert answer.status == status


def test_the_page_in_sight_is_confirmed_at_once(shown: SimpleNamespace) -> None:
    page, project = shown.page, shown.project
    project.name(0, "first")
    page.reload()
    grid = open_group(shown, "group:0")
    page.get_by_role("slider").fill("240")  # few fit
    expect(grid.get_by_role("option").nth(0)).to_be_visible()
    page.keyboard.press("p")
    expect(page.get_by_role("status").filter(has_text="confirmed as “first”")).to_be_visible()
    edit = project.edits[-1]
    assert edit.op == "confirm"
    assert 0 < len(edit.ids) < len(project.rows_of("group:0", "typical"))
    in_order = project.images.ids[project.rows_of("group:0", "typical")]
    assert np.isin(edit.ids, in_order[: len(edit.ids)]).all()


def test_a_picture_is_seen_large_with_its_facts(shown: SimpleNamespace) -> None:
    page = shown.page
    open_group(shown, "group:0").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("24 × 24")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text("2 of ")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("listbox")).to_be_focused()


def test_undo_and_redo_with_the_keyboard_and_from_history(shown: SimpleNamespace) -> None:
    page, project = shown.page, shown.project
    say(fields(page).first, "wrong")
    told(page, "wrong")
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    told(page, "Undone")
    expect(fields(page)).to_have_count(3)
    assert names(project) == {}
    page.keyboard.press("Control+Shift+Z")
    told(page, "Done again")
    expect(cards(page).get_by_role("heading", name="wrong")).to_be_visible()
    assert list(names(project).values()) == ["wrong"]
    page.get_by_role("link", name="History").click()
    page.get_by_role("button", name="Undo edit 0").click()
    expect(page.locator("li.undone").filter(has_text="wrong")).to_be_visible()
    assert names(project) == {}


def test_two_tabs_see_each_other(shown: SimpleNamespace, tab: Any) -> None:
    other = tab(shown.address)
    say(fields(other).first, "from the other")
    expect(cards(shown.page).get_by_role("heading", name="from the other")).to_be_visible()
    say(fields(shown.page).first, "from here")
    expect(cards(other).get_by_role("heading", name="from here")).to_be_visible()
    assert sorted(names(shown.project).values()) == ["from here", "from the other"]


def test_a_strange_name_is_only_a_name(shown: SimpleNamespace) -> None:
    page = shown.page
    run: list[Any] = []
    page.on("dialog", lambda dialog: run.append(dialog))
    strange = ["<img src=x onerror=alert(1)>", "ضفدع 🐸/../../etc/passwd", "a" * 200]
    for name in strange:
        say(fields(page).first, name)
        told(page, name[:50])
    assert set(names(shown.project).values()) == set(strange)
    page.get_by_role("link", name="History").click()
    for at, name in enumerate(reversed(strange)):
        expect(page.locator("li strong").nth(at)).to_have_attribute("title", name)
    for name in strange:
        open_group(shown, f"class:{name}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not run


def test_a_refusal_says_what_to_do(shown: SimpleNamespace) -> None:
    page = shown.page
    busy = {"ok": False, "error": "Busy.", "hint": "Wait a little.", "status": 409}
    page.route("**/api/edits", lambda route: route.fulfill(status=409, json=busy))
    say(fields(page).first, "one")
    expect(page.get_by_role("alert")).to_contain_text("Busy. Wait a little.")
    expect(fields(page)).to_have_count(3)  # what was shown at once is taken back
    assert names(shown.project) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(shown: SimpleNamespace, accessible: Any, scheme: str) -> None:
    """axe finds nothing serious in any of these views, and nothing has to be scrolled sideways on a tablet."""
    page = shown.page
    page.emulate_media(color_scheme=scheme)
    say(fields(page).first, "one")
    told(page, "one")
    fields(page).first.focus()
    cards(page).get_by_role("checkbox").first.check()
    accessible(page, "groups")
    cards(page).first.hover()
    cards(page).first.get_by_role("button", name="Split").click()
    expect(page.get_by_role("dialog").get_by_role("region")).to_have_count(2)
    accessible(page, "split")
    page.keyboard.press("Escape")
    grid = open_group(shown, "group:0")
    grid.focus()
    page.keyboard.press("Space")
    accessible(page, "one group")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("24 × 24")
    accessible(page, "a picture")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="History").click()
    expect(page.get_by_text("Named a group")).to_be_visible()
    accessible(page, "history")
    page.keyboard.press("?")
    accessible(page, "help")
    page.set_viewport_size({"width": 820, "height": 1180})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
