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
from inspect import signature
from typing import Any, NoReturn

from phyla import _plain
from phyla._arguments import parser
from phyla.types import PhylaError

_PATIENCE = 1.0  # seconds that a worker is waited for once a command was told to stop


def _given(args: argparse.Namespace, to: Callable[..., Any]) -> dict[str, Any]:
    """The options that are named as the parameters of `to` are."""
    return {name: getattr(args, name) for name in signature(to).parameters if name in args}


def _done(args: argparse.Namespace) -> Any:
    """What the method of the project returns that the command is named after."""
    from phyla.project import Project

    method = getattr(Project(args.project), args.verb)
    return method(**_given(args, method))


def _sort(args: argparse.Namespace) -> Any:
    from phyla.project import Project, sort

    options = _given(args, Project.sort)
    if args.source is not None:
        project = sort(project=args.project, **options)
    elif args.project is not None:
        project = Project(args.project)
        project.sort(**options)
    else:
        raise PhylaError("Sort what?", "phyla sort PHOTOS, or phyla sort --project PROJECT to go on with one.")
    args.project = project.store.place
    return project.show(), _plain.summary


def _demo(args: argparse.Namespace) -> Any:
    from phyla._demo import digits

    args.source = digits(f"{args.project}/digits")
    args.project = f"{args.project}/digits.phyla"
    return _sort(args)


def _show(args: argparse.Namespace) -> Any:
    return _done(args), _plain.summary


def _open(args: argparse.Namespace) -> Any:
    from phyla.app import serve
    from phyla.project import Project

    serve(Project(args.project), host=args.host, port=args.port, expose=args.expose, open_browser=args.browser)
    return {"project": args.project}, lambda t: f"Nothing that was said is lost: phyla open {t['project']}"


def _name(args: argparse.Namespace) -> Any:
    _done(args)
    return {"group": args.group, "name": args.name}, lambda told: f"Group {told['group']} is called {told['name']!r}."


def _merge(args: argparse.Namespace) -> Any:
    _done(args)
    told = {"groups": args.groups, "name": args.name}
    return told, lambda t: f"Groups {', '.join(map(str, t['groups']))} are the class {t['name']!r}."


def _split(args: argparse.Namespace) -> Any:
    told = [{"name": name, "images": size} for name, size in zip(args.names, _done(args), strict=True)]
    return told, lambda t: "\n".join(f"  {part['name']:24} {part['images']:9,}" for part in t)


def _suggest(args: argparse.Namespace) -> Any:
    return _done(
        args
    ), lambda t: "\n".join(f"{asked['uri']}\n    {asked['why']}" for asked in t) or "Nothing is left to ask."


def _label(args: argparse.Namespace) -> Any:
    return _done(args), _plain.taken_in


def _undo(args: argparse.Namespace) -> Any:
    told = {"seq": _done(args)}
    return told, lambda t: f"Edit {t['seq']} is undone; phyla undo {args.project} takes back one more."


def _redo(args: argparse.Namespace) -> Any:
    return {"seq": _done(args)}, lambda t: f"Edit {t['seq']} is undone: what it took back is in force."


def _remove(args: argparse.Namespace) -> Any:
    _done(args)
    return {"removed": args.images}, lambda t: f"{_plain.count(len(t['removed']), 'image')} removed."


def _spread(args: argparse.Namespace) -> Any:
    return _done(args) | {"project": args.project}, _plain.spread


def _guess(args: argparse.Namespace) -> Any:
    return _done(args), lambda t: "\n".join(
        f"  group {row['group']:<6} {row['name']:24} {row['sureness']:4.0%}" for row in t
    )


def _audit(args: argparse.Namespace) -> Any:
    told = _done(args)
    for check, why in told["skipped"].items():
        print(f"phyla: {check} is skipped: {why}.", file=sys.stderr)
    return told["findings"], _plain.audited


def _search(args: argparse.Namespace) -> Any:
    return _done(args), _plain.found


def _export(args: argparse.Namespace) -> Any:
    if args.page:
        if args.kind or args.images or args.copy:
            raise PhylaError("The page makes no use of --to, --images or --copy.", "Leave them out.")
        from phyla._progress import Progress
        from phyla.app import export_page
        from phyla.project import Project

        project = Project(args.project)
        with Progress(quiet=args.json or args.quiet)("drawing", len(project.images), len(project.images)) as advance:
            count = export_page(project, args.to, force=args.force, advance=advance)
    else:
        count = _done(args)
    return {"to": args.to, "written": count}, lambda told: f"{told['written']:,} written to {told['to']}."


def _train(args: argparse.Namespace) -> Any:
    return _done(args) | {"project": args.project}, _plain.trained


def _predict(args: argparse.Namespace) -> Any:
    from pathlib import Path

    path = Path(args.project)
    if path.suffix == ".onnx" or path.is_file() or (path / "cascade.json").exists():
        from phyla._predicting import predict

        return predict(path, **_given(args, predict)), _plain.predicted
    rows = _done(args)
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
    plain = {name: value for name, value in _done(args).items() if name not in ("heat", "heat_of_class")}
    return plain | ({"to": args.to} if args.to else {}), _plain.explained


def _score(args: argparse.Namespace) -> Any:
    from pathlib import Path

    from phyla._export import read_rows
    from phyla.project import Project, score_rows

    path = Path(args.groups)
    if path.suffix.lower() in (".csv", ".parquet") and not path.is_dir():
        told = score_rows(read_rows(path), args.truth)
    else:
        told = Project(args.groups).score(args.truth)
    return told, lambda t: "\n".join(f"{k:24}{v:.4f}" if isinstance(v, float) else f"{k:24}{v}" for k, v in t.items())


def _compare(args: argparse.Namespace) -> Any:
    return _done(args), _plain.ranked


def _check(args: argparse.Namespace) -> Any:
    from phyla._checking import check  # and not of `Project`: one that is damaged may not open

    told = check(args.project, **_given(args, check))
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
    wide = max(len(name) for listed in told.values() for name in listed)
    return told, lambda t: "\n".join(
        f"{room}\n" + "\n".join(f"  {name:{wide}}  {line}" for name, line in listed.items())
        for room, listed in t.items()
    )


def _run(args: argparse.Namespace) -> Any:
    """Run a command. An unexpected fault is ours, unless its project can't be what we wrote."""
    try:
        return globals()[f"_{args.verb}"](args)
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
    args = parser().parse_args(argv)
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
