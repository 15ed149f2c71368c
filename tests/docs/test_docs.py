"""The documents tell what is there, all of it and nothing else; their commands parse and their links lead somewhere."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from phyla import Project, plugins
from phyla._arguments import parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ROOMS = ("sources", "backbones", "reduce", "neighbors", "cluster", "label.ask", "label.spread", "audit", "engine")
TRY, TEST = "pip install . && phyla demo", "pip install '.[test]' && pytest"


def pages(test: object) -> object:
    return pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())(test)


def commands() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(verbs.choices)


def sections(text: str, level: str) -> dict[str, str]:
    """Heading of this level → what stands under it, up to the next of this level or above."""
    parts = re.split(rf"^(#{{1,{len(level)}}}) (.+)\n", text, flags=re.MULTILINE)[1:]
    return {
        title: body for mark, title, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True) if mark == level
    }


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    """The fenced blocks of a page: language, text, and whether it is marked runnable."""
    found = re.findall(
        r"(<!-- runnable -->\n)?^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [(language, text, bool(mark)) for mark, language, text in found]


def unnamed(command: argparse.ArgumentParser, section: str) -> list[str]:
    """Options, arguments and defaults of `command` that `section` keeps silent about."""
    missing = []
    for action in command._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        for name in action.option_strings or [action.dest]:
            lines = [line for line in section.splitlines() if f"`{name}`" in line]
            missing += [] if lines else [name]
            default = action.default
            if lines and default not in (None, True, False, ()) and not any(str(default) in line for line in lines):
                missing.append(f"{name}: by default {default}")
    return missing


COMMANDS = sections((ROOT / "docs/commands.md").read_text("utf-8"), "##")


def test_each_command_has_its_heading_in_order() -> None:
    assert list(COMMANDS) == [f"phyla {name}" for name in commands()]


@pytest.mark.parametrize("name", commands())
def test_each_option_is_named(name: str) -> None:
    assert not unnamed(commands()[name], COMMANDS[f"phyla {name}"])


@pytest.mark.parametrize("name", commands())
def test_no_option_is_made_up(name: str) -> None:
    real = {o for a in commands()[name]._actions for o in a.option_strings} | {
        a.dest for a in commands()[name]._actions
    }
    rows = re.findall(r"^\| (.+?) \|", COMMANDS[f"phyla {name}"], re.MULTILINE)
    told = {word for row in rows for word in re.findall(r"`([^`]+)`", row)}
    assert told <= real


def test_a_missing_option_or_default_would_be_seen() -> None:
    command = argparse.ArgumentParser()
    command.add_argument("--depth", type=int, default=7)
    assert unnamed(command, "nothing") == ["--depth"]
    assert unnamed(command, "| `--depth` | by default 6 |") == ["--depth: by default 7"]
    assert unnamed(command, "| `--depth` | by default 7 |") == []


def test_each_method_has_its_heading() -> None:
    text = (ROOT / "docs/methods.md").read_text("utf-8")
    told = {room: list(sections(body, "###")) for room, body in sections(text, "##").items()}
    # Those of Phyla itself: other packages may be installed beside it.
    offered = {
        r: [n for n in plugins.names(r) if not plugins.describe(r, n).startswith("from the pack")] for r in ROOMS
    }
    assert {room: sorted(names) for room, names in told.items()} == offered


def test_the_first_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    code = [block.strip() for _, block, _ in blocks(ROOT / "README.md")]
    assert code[:2] == [TRY, TEST]
    assert not re.search(r"^    \S", text[: text.index(TEST)], re.MULTILINE), "code that is not fenced comes first"


def test_ci_runs_what_the_readme_says() -> None:
    lines = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    # Without the brackets `set -e` would let a failed installation pass.
    assert any(line.startswith(f"({TEST})") for line in lines)
    assert "pip install ." in lines and any(line.endswith("&& phyla demo)") for line in lines)
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}, link


@pages
def test_commands_parse(page: Path) -> None:
    for language, text, _ in blocks(page):
        for line in text.splitlines() if language == "sh" else []:
            if line.startswith("phyla "):
                parser().parse_args(shlex.split(line, comments=True)[1:])


@pages
def test_python_compiles_and_asks_for_what_is_there(page: Path) -> None:
    for language, text, runnable in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "project":
                assert hasattr(Project, node.attr), node.attr
        if runnable:
            exec(compile(text, page.name, "exec", dont_inherit=True), {"__name__": "snippet"})


def test_the_example_of_a_method_works() -> None:
    (text,) = (
        text for language, text, runnable in blocks(ROOT / "CONTRIBUTING.md") if language == "python" and runnable
    )
    made: dict[str, object] = {"__name__": "snippet"}
    exec(compile(text, "ward.py", "exec", dont_inherit=True), made)
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    X = (10 * rng.normal(size=(3, 5))[truth] + rng.normal(size=(90, 5))).astype(np.float32)
    fitted = made["Ward"](3).fit(X)  # type: ignore[operator]
    assert len(set(zip(fitted.labels_.tolist(), truth.tolist(), strict=True))) == 3
    assert fitted.strength_.min() >= 0 and fitted.strength_.max() <= 1
    assert (fitted.predict(X) == fitted.labels_).all()
    assert made["Ward"]().fit(X).evidence_.shape[1] >= 2  # type: ignore[operator]
