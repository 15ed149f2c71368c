"""Map, Treemap, Ask me, Check, Find, Take away: what a person does there is said, and shown."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hands import until
from PIL import Image
from playwright.sync_api import expect

from phyla.project import Project, sort


def go(page: Any, view: str) -> None:
    page.evaluate("view => void (location.hash = '#/' + view)", view)


def classes(project: Project) -> dict[str, int]:
    return {known["name"]: known["images"] for known in project.summary()["classes"]}


# ---- Ask me


@pytest.fixture
def asked(shown: SimpleNamespace) -> SimpleNamespace:
    for group, name in enumerate(("one", "two", "three")):
        shown.project.name(group, name)
    go(shown.page, "ask")
    for name in ("one", "two", "three"):
        expect(shown.page.locator(".option").filter(has_text=name)).to_be_visible()
    return shown


def test_twenty_answers_take_twenty_keys(asked: SimpleNamespace) -> None:
    page, before = asked.page, asked.project.seq
    seen = set()
    for number in range(20):
        picture = page.get_by_alt_text("Which class is this?")
        seen.add(picture.get_attribute("src"))
        page.keyboard.press(str(1 + number % 3))
        expect(page.get_by_text(f"{number + 1} answer{'s' * (number > 0)} here")).to_be_visible()
    assert len(seen) == 20, "a picture was asked about twice"
    until(page, lambda: asked.project.seq == before + 20)
    assert [edit.op for edit in asked.project.edits[-20:]] == ["confirm"] * 20


def test_a_skipped_picture_comes_back_by_undo_and_an_answer_too(asked: SimpleNamespace) -> None:
    page = asked.page
    picture = page.get_by_alt_text("Which class is this?")
    first = picture.get_attribute("src")
    page.keyboard.press("s")
    expect(picture).not_to_have_attribute("src", first)
    page.keyboard.press("u")
    expect(picture).to_have_attribute("src", first)
    before = asked.project.seq
    page.keyboard.press("1")
    until(page, lambda: asked.project.seq == before + 1)
    page.keyboard.press("u")
    expect(picture).to_have_attribute("src", first)
    until(page, lambda: asked.project.seq == before + 2)
    assert asked.project.edits[-1].op == "undo"


def test_none_of_these_makes_a_new_class(asked: SimpleNamespace) -> None:
    page = asked.page
    page.keyboard.press("n")
    page.keyboard.type("something new")
    page.keyboard.press("Enter")
    until(page, lambda: classes(asked.project).get("something new") == 1)


def test_nine_alike_are_said_at_once(asked: SimpleNamespace) -> None:
    page = asked.page
    page.get_by_role("button", name="Spread now").click()
    expect(page.get_by_text("images accepted from")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Nine alike").click()
    expect(page.get_by_text("Click those that are not.")).to_be_visible()
    n = page.locator(".square").count()
    before = asked.project.seq
    page.keyboard.press("2")
    expect(page.get_by_role("button", name=f"{n - 1} are, 1 not")).to_be_visible()
    page.keyboard.press("Enter")
    until(page, lambda: asked.project.seq == before + 2)
    right, wrong = asked.project.edits[-2:]
    assert (right.op, len(right.ids), wrong.op, len(wrong.ids)) == ("confirm", n - 1, "reject", 1)
    # What the other one is, is asked at once.
    page.wait_for_selector(".sheet img")
    page.keyboard.press("1")
    until(page, lambda: asked.project.seq >= before + 3)
    assert asked.project.edits[before + 2].ids == wrong.ids and asked.project.edits[before + 2].classes != wrong.classes


# ---- Check


@pytest.fixture
def checked(make_photos: Callable[..., Path], tmp_path: Path, serve: Any, tab: Any) -> SimpleNamespace:
    """Photos among which two are there a second time, smaller; audited."""
    folder = make_photos(tmp_path / "photos")
    for number in range(2):
        rng = np.random.default_rng(number)
        blobs = Image.fromarray(rng.integers(0, 255, (5, 5, 3)).astype(np.uint8))
        for side in (96, 64):
            blobs.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"twin{number}_{side}.png")
    sort(folder, tmp_path / "project", backbone=["fake"], groups=3, threads=1, report=False, quiet=True)
    project = Project(tmp_path / "project")
    project.audit(checks=["duplicates", "outlier"], report=False, quiet=True)
    page = tab(serve(project), "check/duplicates")
    return SimpleNamespace(project=project, page=page)


def test_of_duplicates_one_is_removed_or_both_are_kept(checked: SimpleNamespace) -> None:
    project, page = checked.project, checked.page
    rows = [finding["rows"] for finding in project.findings_of("duplicates")]
    assert len(rows) == 2
    expect(page.get_by_text("larger")).to_have_count(1)
    page.keyboard.press("r")
    expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()
    until(page, lambda: project.summary()["removed"] == 1)
    widths = {int(project.images.width[row]) for row in project.rows_of("removed")}
    assert widths == {64}, "the smaller one goes"
    page.keyboard.press("k")
    expect(page.get_by_text("Nothing is left to look at here.")).to_be_visible()
    until(page, lambda: "duplicates" not in project.summary()["findings"])
    assert project.summary()["removed"] == 1


def test_outliers_are_kept_by_key(checked: SimpleNamespace) -> None:
    project, page = checked.project, checked.page
    go(page, "check/outlier")
    before = project.summary()["findings"]["outlier"]
    grid = page.get_by_role("listbox", name="Outliers")
    grid.focus()
    page.keyboard.press("Space")
    page.keyboard.press("k")
    until(page, lambda: project.summary()["findings"].get("outlier", 0) == before - 1)


# ---- Map


def test_a_lasso_selects_and_what_is_selected_moves(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "map")
    stage = page.get_by_role("application")
    expect(page.locator(".entry")).to_have_count(3)
    box = stage.bounding_box()
    page.keyboard.down("Shift")
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    for number, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=3)
        if not number:
            page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.get_by_text("120 images", exact=True)).to_be_visible()
    field = page.get_by_role("combobox", name="Move the selected images to")
    field.fill("all of them")
    field.press("Enter")
    until(page, lambda: classes(shown.project) == {"all of them": 120})


def test_the_map_works_by_keys_alone(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "map")
    page.locator(".entry").first.focus()
    page.keyboard.press("Enter")  # only the largest group
    page.get_by_role("application").focus()
    page.keyboard.press("v")
    expect(page.get_by_text("40 images", exact=True)).to_be_visible()
    for key in ("+", "+", "ArrowLeft", "-", "0", "Escape"):
        page.keyboard.press(key)
    expect(page.get_by_role("toolbar")).to_have_count(0)


# ---- Treemap


def test_tiles_are_entered_left_and_named(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "tree")
    tiles = page.locator("[data-tile]")
    expect(tiles).to_have_count(3)
    tiles.first.focus()
    page.keyboard.press("n")
    page.keyboard.type("named here")
    page.keyboard.press("Enter")
    until(page, lambda: "named here" in classes(shown.project))
    expect(tiles.first).to_be_focused()
    page.keyboard.press("Enter")
    crumbs = page.get_by_role("navigation", name="Where you are").get_by_role("button")
    expect(crumbs).to_have_count(2)
    page.keyboard.press("Enter")
    expect(crumbs).to_have_count(3)
    expect(page.get_by_role("listbox")).to_be_visible()  # pictures: the bottom
    for left in (2, 1):
        page.keyboard.press("Escape")
        expect(crumbs).to_have_count(left)
    expect(tiles.first).to_be_focused()


# ---- Find


def colours_found(shown: SimpleNamespace, first: int = 10) -> set[str]:
    options = shown.page.get_by_role("listbox", name="Found images").get_by_role("option")
    expect(options.first).to_be_visible()
    rows = [int(told.removeprefix("Image ")) for told in options.evaluate_all("all => all.map(o => o.ariaLabel)")]
    return {Path(shown.project.image(row)["uri"]).name.partition("_")[0] for row in rows[:first]}


def test_a_picture_finds_images_like_it(shown: SimpleNamespace, photos: Path) -> None:
    page = shown.page
    go(page, "find")
    page.get_by_label("Choose pictures", exact=True).set_input_files(photos / "green_007.png")
    expect(page.get_by_text("Most like green_007.png")).to_be_visible()
    assert colours_found(shown) == {"green"}


def test_of_pictures_one_of_which_is_none_the_others_are_taken(
    shown: SimpleNamespace, photos: Path, tmp_path: Path
) -> None:
    page = shown.page
    go(page, "find")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    page.get_by_label("Choose pictures", exact=True).set_input_files([bad, photos / "green_007.png"])
    expect(page.get_by_text("bad.png: ")).to_be_visible()
    expect(page.get_by_text("Most like green_007.png")).to_be_visible()


def test_pictures_are_added_and_left_out(shown: SimpleNamespace, photos: Path) -> None:
    page = shown.page
    go(page, "find")
    chooser = page.get_by_label("Choose pictures", exact=True)
    chooser.set_input_files([photos / "green_007.png", photos / "blue_003.png"])
    expect(page.get_by_text("Most like these 2 pictures")).to_be_visible()
    assert colours_found(shown, 80) >= {"green", "blue"}
    page.get_by_role("button", name="Leave out blue_003.png").click()
    expect(page.get_by_text("Most like green_007.png")).to_be_visible()
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Add a picture to be avoided…").click()
    choosing.value.set_files(photos / "red_001.png")
    expect(page.get_by_text("Most like green_007.png, not like 1 other")).to_be_visible()
    assert colours_found(shown) == {"green"}
    page.get_by_role("button", name="Start anew").click()
    expect(page.get_by_text("Find images like one you have")).to_be_visible()


def test_what_was_found_wrongly_is_avoided(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "find/3")
    grid = page.get_by_role("listbox", name="Found images")
    first = grid.get_by_role("option").first
    name = first.get_attribute("aria-label")
    first.click()
    page.get_by_role("button", name="Not like the 1 selected image").click()
    expect(page.get_by_text("Most like this image, not like 1 other")).to_be_visible()
    expect(page.get_by_text("118 images, nearest first")).to_be_visible()
    expect(grid.get_by_role("option", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("group", name="Not like").get_by_role("img", name=name.lower())).to_be_visible()


def test_words_join_a_picture(shown: SimpleNamespace, photos: Path) -> None:
    page = shown.page
    shown.project.search(words="blue")  # from then on it is known that the network reads words
    page.reload()
    go(page, "find")
    page.get_by_label("Words").fill("blue")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("Most like “blue”")).to_be_visible()
    assert colours_found(shown) == {"blue"}
    page.get_by_label("Choose pictures", exact=True).set_input_files(photos / "green_007.png")
    page.get_by_label("but not").fill("red")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Most like green_007.png and “blue”, not like “red”")).to_be_visible()
    assert "red" not in colours_found(shown)


def test_images_like_selected_ones_are_found(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "find/3,5")
    expect(page.get_by_text("Most like these 2 images")).to_be_visible()
    expect(page.get_by_text("118 images, nearest first")).to_be_visible()


# ---- Take away


def test_a_table_has_the_rows_of_what_was_chosen(shown: SimpleNamespace) -> None:
    page = shown.page
    shown.project.name(0, "first")
    go(page, "take")
    page.get_by_role("combobox", name="Which images").select_option("class:first")
    with page.expect_download() as download:
        page.get_by_role("button", name="Take away 40 images").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert {row["name"] for row in rows} == {"first"}


def test_a_shard_holds_the_pictures(shown: SimpleNamespace) -> None:
    page = shown.page
    shown.project.name(0, "first")
    go(page, "take")
    page.get_by_role("combobox", name="Which images").select_option("class:first")
    page.get_by_role("radio", name="WebDataset").check()
    expect(page.locator("code.command")).to_have_text("phyla export project shards/ --to webdataset")
    expect(page.get_by_text("--to lance")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Take away 40 images").click()
    assert download.value.suggested_filename == "project.tar"
    with tarfile.open(download.value.path()) as tar:
        names = tar.getnames()
    assert [sum(name.endswith(suffix) for name in names) for suffix in (".png", ".cls", ".json")] == [40, 40, 40]


# ---- all


def test_on_a_phone_the_tab_of_the_view_is_in_sight(shown: SimpleNamespace) -> None:
    page = shown.page
    go(page, "find")
    page.set_viewport_size({"width": 360, "height": 700})
    for view, name in {"find": "Find", "history": "History", "map": "Map", "take": "Take away"}.items():
        go(page, view)
        tab = page.get_by_role("navigation", name="Views").get_by_role("link", name=name, exact=True)
        expect(tab).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(shown: SimpleNamespace, accessible: Callable[[Any, str], None], scheme: str) -> None:
    page = shown.page
    shown.project.name(0, "one")
    shown.project.audit(checks=["duplicates", "outlier"], report=False)
    page.emulate_media(color_scheme=scheme)
    signs = {"check/outlier": "button", "map": "canvas", "tree": "button", "ask": ".sheet img", "find": "input"}
    shown.project.search(words="blue")  # and now Find asks for words too
    for view, sign in (signs | {"find/3,5": ".example", "take": "form"}).items():
        go(page, view)
        page.wait_for_selector(f"main {sign}")
        accessible(page, view)
