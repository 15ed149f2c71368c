"""The commands: parse, call one method of `Project`, print. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from phyla import __version__, _plain
from phyla.types import PhylaError

DESCRIPTION = "Sort unlabelled images into groups that mean something, on this machine alone."
_PATIENCE = 1.0  # seconds that a worker is waited for once a command was told to stop
EPILOG = "Start with: phyla sort PHOTOS        (or, with no photos at hand: phyla demo)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phyla", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"phyla {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    def verb(run: Callable[[argparse.Namespace], Any], name: str, help: str) -> Callable[..., Any]:
        command = verbs.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        return command.add_argument

    def work(add: Callable[..., Any]) -> None:
        add("--threads", type=int, help="use at most this many processors (default: all)")
        add("-q", "--quiet", action="store_true", help="show no progress")

    def how(add: Callable[..., Any]) -> None:
        add("--backbone", help="networks to describe images by, with commas (default: by the effort)")
        add("-k", "--groups", type=int, help="how many groups (default: found out)")
        add("--method", help="the grouping method (default: vote); see phyla methods")
        add("--effort", help="fast, default or best: fast takes one network (default: default)")
        add("--agreement", type=float, help="leave out images under this strength, 0 to 1 (default: half the votes)")
        add("--no-report", dest="report", action="store_false", help="draw no map and no report")
        add("--seed", type=int, help="the same seed gives the same groups (default: 0)")
        add("--engine", default="local", metavar="ENGINE", help="local, ray, or ray://HOST:10001 (default: local)")
        add("--store", help="what to keep the networks' features in: npy or lance (default: npy)")
        add("--anew", action="store_true", help="group anew what is sorted already (default: keep its groups)")
        work(add)

    add = verb(_sort, "sort", "Sort images into groups; run again, it goes on where it was and places what is new.")
    add("source", nargs="?", help="a folder, .zip, .tar, .parquet, or .csv of paths; by default the project's own")
    add("-o", "--project", help="the folder to keep everything in (default: NAME.phyla here)")
    add("--open", action="store_true", help="then open the page, as phyla open does")
    add("--domains", choices=["folder"], help="what label_shift goes by: each image's folder (a camera, a day)")
    how(add)
    add = verb(_demo, "demo", "Run the main job on 1,797 handwritten digits that come with Phyla's libraries.")
    add("-o", "--project", default="phyla-demo", help="the folder to keep everything in (default: %(default)s)")
    add("--open", action="store_true", help="then open the page, as phyla open does")
    how(add)
    add = verb(_show, "show", "Tell what a project holds.")
    add("project")
    add = verb(_open, "open", "Open a project in the browser: see, name, sort and check its images there.")
    add("project")
    add("--host", default="127.0.0.1", help="the address to answer at (default: %(default)s, this machine alone)")
    add("--port", type=int, default=0, help="(default: a free one)")
    add("--expose", action="store_true", help="allow a --host that others can reach; the link's token is their key")
    add("--no-browser", dest="browser", action="store_false", help="print the link, and leave the browser alone")
    add = verb(_name, "name", "Give a group a name.")
    add("project")
    add("group", type=int)
    add("name")
    add = verb(_merge, "merge", "Make one class of several groups.")
    add("project")
    add("name")
    add("groups", type=int, nargs="+", metavar="group")
    add = verb(_split, "split", "Divide a group into as many parts as there are names.")
    add("project")
    add("group", type=int)
    add("names", nargs="+", metavar="name", help="the first is for the largest part")
    add = verb(_suggest, "suggest", "Tell which images to label next, and why.")
    add("project")
    add("-n", type=int, default=20, help="how many (default: %(default)s)")
    add("--method", default="auto", help="the way of asking (default: %(default)s); see phyla methods")
    add("--seed", type=int, default=0, help="the same seed asks the same (default: %(default)s)")
    add("--threads", type=int, help="use at most this many processors (default: all)")
    add = verb(_label, "label", "Take in what people say of images.")
    add("project")
    add("answers", help="a CSV with the columns uri and label (or JSONL, or Parquet)")
    add("--unchecked", action="store_true", help="a list that may be wrong in places: it yields to every answer")
    add("--reject", action="store_true", help="the images are NOT of these classes")
    add("--by", default="", help="who says so (default: the user of this machine)")
    add = verb(_undo, "undo", "Take back what was said last.")
    add("project")
    add("seq", type=int, nargs="?", help="the number of an edit (default: the last that is in force)")
    add = verb(_redo, "redo", "Say again what the last undo took back.")
    add("project")
    add = verb(_remove, "remove", "Leave images out of everything from now on; their files stay.")
    add("project")
    add("images", nargs="+", metavar="uri")
    add = verb(_spread, "spread", "Spread the labels to all images, and accept those that are sure.")
    add("project")
    add("--method", default="anchored", help="the way of spreading (default: %(default)s); see phyla methods")
    add("--error", type=float, default=0.02, help="share of wrong ones to accept (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same seed gives the same labels (default: %(default)s)")
    add("--no-report", dest="report", action="store_false", help="leave the report as it is")
    work(add)
    add = verb(_guess, "guess", "Guess which class each group is, through a network that reads words.")
    add("project")
    add("classes", nargs="+", metavar="class")
    add("--apply", action="store_true", help="name the groups so where the guess is surer than not")
    add("--threads", type=int, help="use at most this many processors (default: all)")
    add = verb(_audit, "audit", "Look for what is wrong with a collection.")
    add("project")
    add("--labels", help="a CSV of uri and label to check (default: what the project knows)")
    add("--checks", metavar="NAMES", help="with commas (default: all); see phyla methods")
    add("--engine", default="local", metavar="ENGINE", help="local, ray, or ray://HOST:10001 (default: local)")
    add("--no-report", dest="report", action="store_false", help="leave the report as it is")
    work(add)
    add = verb(_search, "search", "Find the images most like some pictures, or words.")
    add("project")
    add("like", nargs="*", default=(), metavar="picture", help="a file, or an image's uri; several are averaged")
    add("--words", default="", help="what the images shall show, where a network reads words")
    add("--without", nargs="+", default=(), metavar="PICTURE", help="pictures that they shall not be like")
    add("--minus", default="", metavar="WORDS", help="words for what they shall not show")
    add("-n", type=int, default=20, help="how many (default: %(default)s)")
    add = verb(_export, "export", "Write the groups as a table, a folder with a folder a group, or for other tools.")
    add("project")
    add("to", help="OUT.csv, OUT.parquet, OUT.lance, or a folder")
    add(
        "--to",
        dest="kind",
        metavar="KIND",
        help="csv, parquet, lance, folder, webdataset or fiftyone (default: by OUT)",
    )
    add("--images", action="store_true", help="put the images themselves into OUT.parquet or OUT.lance")
    add("--copy", action="store_true", help="put copies into the folders instead of links")
    add("--page", action="store_true", help="write the page as a folder that opens from the disk, to look at only")
    add("--force", action="store_true", help="replace a file or add to a folder that is there")
    add("-q", "--quiet", action="store_true", help="show no progress")
    add = verb(_train, "train", "Teach a small classifier what a project knows; it runs without Phyla.")
    add("project")
    add("to", nargs="?", help="NAME.onnx, or a folder for a cascade (default: only show the choice)")
    add("--backbone", help="the network (default: the fastest of those that lose no more than a point)")
    add("--int8", dest="integer", action="store_true", help="compute in 8-bit integers: faster, half the size")
    add("--cascade", action="store_true", help="the fastest network first, the others only where it is in doubt")
    add("--budget", type=float, help="share of all networks' cost for a cascade (default: the least that loses little)")
    add("--error", type=float, default=0.02, help="share of wrong ones where it is sure (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same seed teaches the same (default: %(default)s)")
    add("--force", action="store_true", help="replace what is there")
    work(add)
    add = verb(_predict, "predict", "Let a project, or a classifier in a file, say what new images are.")
    add("project", metavar="PROJECT|MODEL", help="a project, or what phyla train wrote: a .onnx, or a cascade's folder")
    add("source", help="the new images: anything that sort takes")
    add("-o", "--to", required=True, metavar="OUT", help="OUT.csv or OUT.parquet")
    add("--force", action="store_true", help="replace OUT if it is there")
    work(add)
    add = verb(_explain, "explain", "Tell why an image is taken for what it is, or what a group is.")
    add("project")
    add("picture", nargs="?", help="an image of the project, or any picture file")
    add("--group", help="instead of a picture: the number of a group, or a class")
    add("--against", help="another group or class, instead of all the rest")
    add("-o", "--to", metavar="OUT", help="OUT.png (the picture, and where the networks look) or OUT.html (everything)")
    add("--force", action="store_true", help="replace OUT if it is there")
    work(add)
    add = verb(_score, "score", "Compare groups with known classes.")
    add("groups", metavar="PROJECT|OUT.csv", help="a project, or what predict wrote")
    add("truth", help="a CSV with the columns uri and label, or a Parquet file with a label column")
    add = verb(_compare, "compare", "Rank networks, numbers of axes and methods, without labels.")
    add("project")
    add("--methods", metavar="NAMES", help="with commas (default: eight quick ones)")
    work(add)
    add = verb(_check, "check", "Read all that a project holds, and tell what is damaged.")
    add("project")
    add("--repair", action="store_true", help="move what is damaged away, and make it again where it can be")
    work(add)
    add = verb(_backbones, "backbones", "List the networks.")
    add("--measure", action="store_true", help="time each on this machine")
    add("--threads", type=int, help="use at most this many processors (default: all)")
    add = verb(_methods, "methods", "List every method, room by room.")
    return parser


def _sort(args: argparse.Namespace) -> Any:
    from phyla.project import Project, sort

    names = "groups method effort domains agreement seed anew report engine store threads quiet"
    options: dict[str, Any] = {n: getattr(args, n) for n in names.split() if hasattr(args, n)}
    options["backbone"] = [name.strip() for name in args.backbone.split(",")] if args.backbone else None
    if args.source is None:
        if args.project is None:
            raise PhylaError("Sort what?", "phyla sort PHOTOS, or phyla sort --project PROJECT to go on with one.")
        project = Project(args.project)
        project.sort(**options)
    else:
        project = sort(args.source, args.project, **options)
    args.project = project.store.place
    return project.show(), _plain.summary


def _demo(args: argparse.Namespace) -> Any:
    from phyla._demo import digits

    args.source = digits(f"{args.project}/digits")
    args.project = f"{args.project}/digits.phyla"
    return _sort(args)


def _show(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    return Project(args.project).show(), _plain.summary


def _open(args: argparse.Namespace) -> Any:
    from phyla.app import serve
    from phyla.project import Project

    serve(Project(args.project), host=args.host, port=args.port, expose=args.expose, open_browser=args.browser)
    return {"project": args.project}, lambda t: f"Nothing that was said is lost: phyla open {t['project']}"


def _name(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    Project(args.project).name(args.group, args.name)
    return {"group": args.group, "name": args.name}, lambda told: f"Group {told['group']} is called {told['name']!r}."


def _merge(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    Project(args.project).merge(args.groups, args.name)
    told = {"groups": args.groups, "name": args.name}
    return told, lambda t: f"Groups {', '.join(map(str, t['groups']))} are the class {t['name']!r}."


def _split(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    sizes = Project(args.project).split(args.group, args.names)
    told = [{"name": name, "images": size} for name, size in zip(args.names, sizes, strict=True)]
    return told, lambda t: "\n".join(f"  {part['name']:24} {part['images']:9,}" for part in t)


def _suggest(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).suggest(args.n, method=args.method, seed=args.seed, threads=args.threads)
    return told, lambda t: "\n".join(f"{asked['uri']}\n    {asked['why']}" for asked in t) or "Nothing is left to ask."


def _label(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).label(args.answers, unchecked=args.unchecked, reject=args.reject, by=args.by)
    return told, _plain.taken_in


def _undo(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = {"seq": Project(args.project).undo(args.seq)}
    return told, lambda t: f"Edit {t['seq']} is undone; phyla undo {args.project} takes back one more."


def _spread(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).spread(
        method=args.method, error=args.error, seed=args.seed, report=args.report, threads=args.threads, quiet=args.quiet
    )
    return told | {"project": args.project}, _plain.spread


def _redo(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    return {"seq": Project(args.project).redo()}, lambda t: f"Edit {t['seq']} is undone: what it took back is in force."


def _remove(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    Project(args.project).remove(args.images)
    return {"removed": args.images}, lambda t: f"{_plain.count(len(t['removed']), 'image')} removed."


def _guess(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).guess(args.classes, apply=args.apply, threads=args.threads)
    return told, lambda t: "\n".join(f"  group {row['group']:<6} {row['name']:24} {row['sureness']:4.0%}" for row in t)


def _audit(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    checks = [name.strip() for name in args.checks.split(",")] if args.checks else None
    told = Project(args.project).audit(
        args.labels, checks=checks, engine=args.engine, report=args.report, threads=args.threads, quiet=args.quiet
    )
    for check, why in told["skipped"].items():
        print(f"phyla: {check} is skipped: {why}.", file=sys.stderr)
    return told["findings"], _plain.audited


def _search(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).search(args.like, args.words, args.without, args.minus, args.n)
    return told, _plain.found


def _export(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    project = Project(args.project)
    if args.page:
        if args.kind or args.images or args.copy:
            raise PhylaError("The page makes no use of --to, --images or --copy.", "Leave them out.")
        from phyla._progress import Progress
        from phyla.app import export_page

        with Progress(quiet=args.json or args.quiet)("drawing", len(project.images), len(project.images)) as advance:
            count = export_page(project, args.to, force=args.force, advance=advance)
    else:
        options = {name: getattr(args, name) for name in ("kind", "images", "copy", "force", "quiet")}
        count = project.export(args.to, **options)
    return {"to": args.to, "written": count}, lambda told: f"{told['written']:,} written to {told['to']}."


def _train(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).train(
        args.to, backbone=args.backbone, integer=args.integer, cascade=args.cascade, budget=args.budget,
        error=args.error, seed=args.seed, force=args.force, threads=args.threads, quiet=args.quiet,
    )  # fmt: skip
    return told | {"project": args.project}, _plain.trained


def _predict(args: argparse.Namespace) -> Any:
    from pathlib import Path

    options = {name: getattr(args, name) for name in ("force", "threads", "quiet")}
    path = Path(args.project)
    if path.suffix == ".onnx" or path.is_file() or (path / "cascade.json").exists():
        from phyla._predicting import predict

        return predict(args.project, args.source, args.to, **options), _plain.predicted
    from phyla.project import Project

    rows = Project(args.project).predict(args.source, args.to, **options)
    read = rows["group"] >= 0
    told = {
        "to": args.to,
        "images": len(read),
        "unreadable": int((~read).sum()),
        "left_out": int((rows["left_out"] & read).sum()),
    }
    return (
        told,
        lambda t: (
            f"{t['images']:,} files: {t['left_out']:,} left out, {t['unreadable']:,} unreadable. Written to {t['to']}."
        ),
    )


def _explain(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    told = Project(args.project).explain(
        args.picture, group=args.group, against=args.against, to=args.to, force=args.force, threads=args.threads,
        quiet=args.quiet,
    )  # fmt: skip
    plain = {name: value for name, value in told.items() if name not in ("heat", "heat_of_class")}
    return plain | ({"to": args.to} if args.to else {}), _plain.explained


def _score(args: argparse.Namespace) -> Any:
    from pathlib import Path

    from phyla._export import read_rows
    from phyla.project import Project, score_rows

    if Path(args.groups).suffix.lower() in (".csv", ".parquet"):
        told = score_rows(read_rows(Path(args.groups)), args.truth)
    else:
        told = Project(args.groups).score(args.truth)
    return told, lambda t: "\n".join(f"{k:24}{v:.4f}" if isinstance(v, float) else f"{k:24}{v}" for k, v in t.items())


def _compare(args: argparse.Namespace) -> Any:
    from phyla.project import Project

    methods = [name.strip() for name in args.methods.split(",")] if args.methods else None
    return Project(args.project).compare(methods=methods, threads=args.threads, quiet=args.quiet), _plain.ranked


def _check(args: argparse.Namespace) -> Any:
    from phyla._checking import check  # and not of `Project`: one that is damaged may not open

    told = check(args.project, repair=args.repair, threads=args.threads, quiet=args.quiet)
    args.status = 0 if told["whole"] else 1
    return told, _plain.checked


def _backbones(args: argparse.Namespace) -> Any:
    from dataclasses import asdict

    from phyla import backbones
    from phyla.engine import cores

    told = [asdict(card) for card in backbones.cards()]
    for row, card in zip(told, backbones.cards(), strict=True):
        if args.measure:
            row["images_per_second"] = round(backbones.measure(card, args.threads or cores()))
    return told, _plain.backbone_table


def _methods(args: argparse.Namespace) -> Any:
    from phyla import plugins

    rooms = (
        "sources", "backbones", "reduce", "neighbors", "cluster", "label.ask", "label.spread", "audit", "engine",
    )  # fmt: skip
    told = {room: {name: plugins.describe(room, name) for name in plugins.names(room)} for room in rooms}
    return told, lambda t: "\n".join(
        f"{room}\n" + "\n".join(f"  {name:10} {line}" for name, line in listed.items()) for room, listed in t.items()
    )


def _run(args: argparse.Namespace) -> Any:
    """Run a command. An unexpected fault is ours, unless its project can't be what we wrote."""
    try:
        return args.run(args)
    except (PhylaError, OSError):
        raise
    except Exception as fault:
        from phyla._sound import blame  # only now: it loads what `--help` has no need of

        place = getattr(args, "project", None) or getattr(args, "groups", None)
        if isinstance(place, str) and (why := blame(place)):
            raise why from fault
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command: 0, 1 where `check` finds faults, 2 for a fault the user can mend, 130 or 143 if told to stop."""
    args = _parser().parse_args(argv)
    told_to: list[int] = []
    try:
        with _stoppable(told_to):
            told, plain = _run(args)
            _print(json.dumps(told, indent=1, ensure_ascii=False) if args.json else plain(told))
            if getattr(args, "open", False):
                from phyla.app import serve
                from phyla.project import Project

                serve(Project(args.project))
    except PhylaError as fault:
        print(_harmless(f"phyla: {fault.message}"), file=sys.stderr)
        if fault.hint:
            print(_harmless(f"  {fault.hint}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("phyla: stopped. The same command goes on where it was.", file=sys.stderr)
        return 128 + (told_to or [signal.SIGINT])[0]
    except OSError as fault:  # of the disk or a network, which no code of ours can mend
        if fault.errno is None:
            raise
        print(f"phyla: {fault.filename or 'A file'}: {fault.strerror}.", file=sys.stderr)
        print("  Look after the disk, or the network, and run the same command again.", file=sys.stderr)
        return 2
    return getattr(args, "status", 0)


def run() -> NoReturn:
    """Run the command that this process was started for."""
    status = main()
    if status > 128:
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join(_PATIENCE)
                if thread.is_alive():  # it waits for a stalled mount, perhaps for ever
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
    sys.exit(status)


@contextmanager
def _stoppable(told_to: list[int]) -> Iterator[None]:
    """Have SIGTERM stop a command as Ctrl-C does: every `with` and `finally` runs. A second one ends it at once.

    The signal is appended to `told_to`: on its way the interrupt may become another (Ray's).
    """

    def stop(number: int, frame: Any) -> None:
        for each in caught:
            signal.signal(each, lambda number, frame: os._exit(128 + number))
        told_to.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # One that is ignored (nohup, a job in the background of a script) stays so.
    caught = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is not signal.SIG_IGN]
    before = [signal.signal(each, stop) for each in caught]
    try:
        yield
    finally:
        for each, was in zip(caught, before, strict=True):
            signal.signal(each, was)


def _harmless(text: str) -> str:
    """`text` without what a terminal takes for an order: the names in it may be a stranger's."""
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _print(text: str) -> None:
    text = _harmless(text)
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # a terminal that can't show a file's name
        print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    except BrokenPipeError:  # `phyla show | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
