"""The commands: what they take, what they print where, and how they fail."""

from __future__ import annotations

import argparse
import errno
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phyla import sources
from phyla._arguments import parser
from phyla.cli import main
from phyla.project import Project

VERBS = (
    "sort", "show", "export", "predict", "score", "compare", "name", "merge", "split", "suggest", "label", "undo",
    "redo", "remove", "spread", "guess", "audit", "explain", "search", "train", "check",
)  # fmt: skip
# Of the command alone: how it prints, and in which project.
OF_THE_COMMAND = {"help", "json", "open", "page", "project"}
# Where a command says otherwise than the method, and why.
WATCHED = ("sort", "predict", "compare", "spread", "audit", "explain", "train", "check", "export")
ELSE = {(verb, "quiet"): "people watch a command" for verb in WATCHED}


def options(verb: str) -> dict[str, argparse.Action]:
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {a.dest: a for a in verbs.choices[verb]._actions}


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_takes_what_its_method_takes(verb: str) -> None:
    given = {name: a for name, a in options(verb).items() if name not in OF_THE_COMMAND}
    wanted = {n: p for n, p in inspect.signature(getattr(Project, verb)).parameters.items() if n != "self"}
    if verb == "score":
        given.pop("groups")  # a project, or a table in its stead
    assert list(sorted(given)) == sorted(wanted)
    for name, parameter in wanted.items():
        action = given[name]
        if parameter.default is inspect.Parameter.empty:
            assert action.required, name
        elif (verb, name) not in ELSE and not (verb == "predict" and name == "to"):
            default = None if action.nargs == "?" and action.default is None else action.default
            assert default == parameter.default, name


def test_demo_takes_what_sort_takes() -> None:
    assert set(options("sort")) - set(options("demo")) == {"source", "domains"}
    same = set(options("demo")) - {"project", "help"}
    assert {n: options("demo")[n].default for n in same} == {n: options("sort")[n].default for n in same}


def test_every_verb_and_option_has_help() -> None:
    (verbs,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(VERBS) < set(verbs.choices) and len(verbs._choices_actions) == len(verbs.choices)
    assert all(choice.help for choice in verbs._choices_actions)
    for verb in verbs.choices:
        silent = [n for n, a in options(verb).items() if not a.help and a.option_strings]
        assert not silent, f"{verb}: {silent}"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command's arguments → exit status, stdout, stderr."""

    def go(*argv: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(a) for a in argv])
        return status, *capsys.readouterr()

    return go


class TestJson:
    def test_show(self, run: Run, sorted_project: Project) -> None:
        status, out, err = run("show", sorted_project.folder, "--json")
        assert (status, err) == (0, "")
        assert json.loads(out) == sorted_project.show()

    def test_sort(self, run: Run, photos: Path, tmp_path: Path) -> None:
        quick = ("--backbone", "fake", "-k", 3, "--threads", 1, "--no-report", "--json", "-q")
        status, out, err = run("sort", photos, "-o", tmp_path / "p", *quick)
        assert (status, err) == (0, "")
        assert json.loads(out) == Project(tmp_path / "p").show()
        status, again, _ = run("sort", "-o", tmp_path / "p", *quick)
        assert status == 0 and json.loads(again) == json.loads(out)

    def test_name_export_predict_score(self, run: Run, project: Project, photos: Path, tmp_path: Path) -> None:
        def told(*argv: Any) -> Any:
            status, out, err = run(*argv, "--json")
            assert (status, err) == (0, "")
            return json.loads(out)

        assert told("name", project.folder, 0, "zoë") == {"group": 0, "name": "zoë"}
        assert told("show", project.folder)["sizes"][0]["name"] == "zoë"
        table = tmp_path / "out.csv"
        assert told("export", project.folder, table) == {"to": str(table), "written": 120}
        assert told("export", project.folder, table, "--force")["written"] == 120
        assert told("export", project.folder, tmp_path / "tree", "--copy")["written"] == 120
        new = tmp_path / "new.parquet"
        assert told("predict", project.folder, photos, "-o", new, "-q") == {
            "to": str(new), "images": 120, "unreadable": 0, "left_out": 0,
        }  # fmt: skip
        truth = tmp_path / "truth.csv"
        truth.write_text("\n".join(["uri,label", *(f"{p.name},{p.name[:3]}" for p in photos.iterdir())]))
        assert told("score", project.folder, truth)["accuracy"] == 1
        assert told("score", table, truth) == told("score", new, truth) == told("score", project.folder, truth)

    def test_compare(self, run: Run, sorted_project: Project) -> None:
        argv = ("--methods", "kmeans, vmf", "--threads", 1, "-q", "--json")
        status, out, err = run("compare", sorted_project.folder, *argv)
        told = json.loads(out)
        assert (status, err) == (0, "") and {row["name"] for row in told["methods"]} == {"kmeans", "vmf"}
        assert told == sorted_project.compare(methods=["kmeans", "vmf"], threads=1)

    def test_methods_and_backbones(self, run: Run) -> None:
        told = json.loads(run("methods", "--json")[1])
        assert "vote" in told["cluster"] and all(told["cluster"].values())
        assert "lite0" in [card["name"] for card in json.loads(run("backbones", "--json")[1])]


class TestPlain:
    def test_show(self, run: Run, project: Project) -> None:
        project.name(0, "plants")
        _, out, _ = run("show", project.folder)
        assert "120 files" in out and "3 groups" in out and "plants" in out
        assert str(project.report) in out and str(project.folder) in out

    def test_compare(self, run: Run, sorted_project: Project) -> None:
        status, out, err = run("compare", sorted_project.folder, "--methods", "kmeans,vmf", "--threads", 1)
        assert status == 0 and "comparing" in err
        told = sorted_project.compare(methods=["kmeans", "vmf"], threads=1)
        best, lines = told["ways"][0], out.splitlines()
        assert lines[0] == f"120 images in 3 groups, made in {len(told['ways'])} ways."
        assert lines[1] == f"First: {best['method']} on fake, {best['axes']} axes of each network."
        assert [line.split()[0] for line in lines if "mean rank" in line] == ["networks", "axes", "methods"]
        assert "On three labelled sets this ranking matched accuracy" in out
        for value in (*told["matched"]["ways"], *told["worth"]["lidar"]):
            assert f"{value:.2f}" in out
        assert all(len(line) <= 80 for line in lines)

    @pytest.mark.parametrize("argv", [["methods"], ["backbones"]], ids=str)
    def test_lists(self, run: Run, argv: list[str]) -> None:
        status, out, err = run(*argv)
        assert status == 0 and not err and "lite" in out

    def test_progress_goes_to_stderr(self, run: Run, photos: Path, tmp_path: Path) -> None:
        quick = ("--backbone", "fake", "-k", 3, "--threads", 1, "--json")
        _, out, err = run("sort", photos, "-o", tmp_path / "p", *quick)
        json.loads(out)
        assert all(word in err for word in ("reading", "looking", "compressing", "grouping", "mapping", "drawing"))
        _, out, err = run("sort", photos, "-o", tmp_path / "p", *quick)
        json.loads(out)
        assert not any(word in err for word in ("reading", "looking", "compressing", "grouping", "mapping"))

    def test_a_terminal_without_the_letters(self, project: Project) -> None:
        project.name(0, "zoë🙂")
        env = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "phyla", "show", str(project.folder)]
        done = subprocess.run(command, capture_output=True, env=env, check=True)
        assert b"zo\\xeb\\U0001f642" in done.stdout and not done.stderr


@pytest.mark.parametrize(
    "argv, says",
    [
        (["show", "nowhere"], "is no Phyla project"),
        (["sort", "nowhere"], "There is nothing at"),
        (["sort"], "Sort what?"),
        (["sort", "PHOTOS", "--backbone", "lite9"], "no backbone 'lite9'"),
        (["sort", "PHOTOS", "--backbone", "fake,"], "no backbone ''"),
        (["sort", "PHOTOS", "--method", "votes"], "'votes'"),
        (["sort", "PHOTOS", "-k", "0"], "0 groups"),
        (["sort", "PHOTOS", "--threads", "-1"], "-1 threads"),
        (["sort", "PHOTOS", "--seed", "-1"], "-1 can't be a seed"),
        (["sort", "PHOTOS", "-o", "PHOTOS", "--backbone", "fake"], "is not empty"),
        (["export", "PROJECT", "PHOTOS", "--force"], "what the project was sorted from"),
        (["export", "PROJECT", "PROJECT", "--page", "--force", "-q"], "lies in the project"),
        (["suggest", "PROJECT", "--seed", "-1"], "-1 can't be a seed"),
        (["spread", "PROJECT", "--seed", "4294967296"], "4294967296 can't be a seed"),
        (["train", "PROJECT", "x.onnx", "--seed", "-1"], "-1 can't be a seed"),
        (["open", "PROJECT", "--port", "99999"], "a port is a number"),
        (["export", "nowhere", "out.csv"], "is no Phyla project"),
        (["name", "PROJECT", "9", "x"], "There is no group 9"),
        (["predict", "PROJECT", "PHOTOS", "-o", "out.txt"], "neither a .csv nor a .parquet"),
        (["score", "PROJECT", "PHOTOS"], "has no labels"),
        (["score", "none.csv", "PHOTOS"], "There is no file none.csv"),
        (["compare", "nowhere"], "is no Phyla project"),
        (["compare", "PROJECT", "--methods", "votes"], "'votes'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_an_error_is_two_lines(
    argv: list[str], says: str, run: Run, sorted_project: Project, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {"PHOTOS": str(photos), "PROJECT": str(sorted_project.folder)}
    status, out, err = run(*(places.get(a, a) for a in argv))
    assert (status, out) == (2, "")
    assert says in err
    what, hint = err.splitlines()
    assert what.startswith("phyla: ") and hint.startswith("  ") and hint.strip()
    assert not list(tmp_path.iterdir()), "a wrong command leaves nothing behind"


def test_a_folder_is_no_table_whatever_it_is_called(run: Run, sorted_project: Project, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("uri,label\nred_000.png,a\nblue_000.png,b\n")
    shutil.copytree(sorted_project.folder, tmp_path / "project.csv")
    (tmp_path / "folder.csv").mkdir()
    assert run("score", tmp_path / "project.csv", tmp_path / "truth.csv")[0] == 0
    status, _, err = run("score", tmp_path / "folder.csv", tmp_path / "truth.csv")
    assert status == 2 and "folder.csv is no Phyla project" in err


def test_usage_errors_have_the_same_status(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["sort", "x", "--groups", "three"], ["nothing"], []):
        with pytest.raises(SystemExit) as told:
            main(argv)
        assert told.value.code == 2
        assert not capsys.readouterr().out


def test_an_interrupt_is_told_in_a_line(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "scan", stop)
    status, out, err = run("sort", photos, "-o", tmp_path / "p", "--backbone", "fake", "-q")
    assert (status, out) == (130, "")
    assert err.splitlines() == ["phyla: stopped. The same command goes on where it was."]


def test_a_fault_of_the_disk_is_two_lines(run: Run, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/photos/1.png")

    monkeypatch.setattr(Project, "show", fail)
    status, out, err = run("show", project.folder)
    assert (status, out) == (2, "")
    assert err.splitlines()[0] == "phyla: /photos/1.png: Input/output error." and len(err.splitlines()) == 2


def test_a_fault_of_our_own_is_not_hidden(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sources, "scan", fail)
    with pytest.raises(ZeroDivisionError):
        main(["sort", str(photos), "-o", str(tmp_path / "p"), "--backbone", "fake", "-q"])


@pytest.mark.parametrize(
    "argv, within",
    [
        (["sort", "PHOTOS", "-o", "new", "--backbone", "fake"], "phyla.project.check_engine"),
        (["score", "table.csv", "PHOTOS"], "phyla._export.read_rows"),
        (["predict", "net.onnx", "PHOTOS", "-o", "out.csv"], "phyla._predicting.predict"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_nor_is_it_laid_to_a_project_where_there_is_none(
    argv: list[str], within: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(within, fail)
    with pytest.raises(ZeroDivisionError):
        main([str(photos) if word == "PHOTOS" else word for word in argv])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The folder that `phyla demo` ran in, what it told, and how it scored: a real network on real pictures."""
    folder = tmp_path_factory.mktemp("demo")

    def run(*argv: str) -> Any:
        command = [sys.executable, "-m", "phyla", *argv, "--json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    told = run("demo", "-q")
    (truth,) = folder.rglob("labels.csv")
    return folder, told, run("score", told["project"], str(truth))


def test_demo(demo: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    folder, told, score = demo
    figures = f"{told['groups']} groups of ten digits: NMI {score['nmi']:.3f} (chance 0), {score}"
    print(figures)
    assert told["images"] == score["scored"] == 1797 and told["unreadable"] == 0
    assert score["nmi"] > 0.5, figures
    assert (folder / told["report"]).stat().st_size > 100_000
    assert [p.name for p in folder.iterdir()] == ["phyla-demo"]


def test_demo_finds_about_ten_groups(demo: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    # Ten digits, some written in two ways.
    assert 8 <= demo[1]["groups"] <= 14


def test_the_loop_of_labels(run: Run, project: Project, tmp_path: Path) -> None:
    status, out, _ = run("suggest", project.folder, "-n", 6, "--json")
    asked = json.loads(out)
    assert status == 0 and len(asked) == 6 and {"uri", "why", "guess", "group", "id"} == set(asked[0])
    answers = tmp_path / "answers.csv"
    answers.write_text("uri,label\n" + "".join(f"{a['uri']},{Path(a['uri']).name.split('_')[0]}\n" for a in asked))
    status, out, _ = run("label", project.folder, answers)
    assert status == 0 and "6 images in 3 classes" in out
    status, out, _ = run("spread", project.folder, "--json", "-q", "--threads", 1)
    assert status == 0 and json.loads(out)["classes"] == {"red": 40, "green": 40, "blue": 40}
    status, out, _ = run("show", project.folder)
    assert "3 classes; 6 images answered for." in out and "Spread from 6 answers" in out
    truth = tmp_path / "truth.csv"
    uris = project.images.uris.tolist()
    truth.write_text("uri,label\n" + "".join(f"{uri},{Path(uri).name.split('_')[0]}\n" for uri in uris))
    out_file = tmp_path / "out.csv"
    run("export", project.folder, out_file)
    for of in (project.folder, out_file):
        status, out, _ = run("score", of, truth, "--json")
        assert status == 0 and json.loads(out)["accuracy_named"] == 1
    status, out, _ = run("undo", project.folder, "--json")
    assert status == 0 and json.loads(out) == {"seq": 0}
    status, _, err = run("guess", project.folder, "red")
    assert status == 2 and "two classes" in err
