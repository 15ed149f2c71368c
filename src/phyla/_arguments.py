"""What each command takes: its options, their defaults and what is said of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from phyla import __version__

DESCRIPTION = "Sort unlabelled images into groups that mean something, on this machine alone."
EPILOG = "Start with: phyla sort PHOTOS        (or, with no photos at hand: phyla demo)"


def parser() -> argparse.ArgumentParser:
    """What a command line is read by; `verb` is the command of it, and the rest its options under their names."""
    top = argparse.ArgumentParser(prog="phyla", description=DESCRIPTION, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"phyla {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    def verb(name: str, help: str) -> Callable[..., Any]:
        command = verbs.add_parser(name, help=help, description=help)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        return command.add_argument

    def of_project(name: str, help: str) -> Callable[..., Any]:
        (add := verb(name, help))("project")
        return add

    def processors(add: Callable[..., Any]) -> None:
        add("--threads", type=int, help="use at most this many processors (default: all)")

    def quiet(add: Callable[..., Any]) -> None:
        add("-q", "--quiet", action="store_true", help="show no progress")

    def work(add: Callable[..., Any]) -> None:
        processors(add)
        quiet(add)

    def engine(add: Callable[..., Any]) -> None:
        add("--engine", default="local", metavar="ENGINE", help="local, ray, or ray://HOST:10001 (default: local)")

    def how(add: Callable[..., Any]) -> None:
        add("--open", action="store_true", help="then open the page, as phyla open does")
        add("--backbone", type=_listed, help="networks to describe images by, with commas (default: by the effort)")
        add("-k", "--groups", type=int, help="how many groups (default: found out)")
        add("--method", help="the grouping method (default: vote); see phyla methods")
        add("--effort", help="fast, default or best: fast takes one network (default: default)")
        add("--agreement", type=float, help="leave out images under this strength, 0 to 1 (default: half the votes)")
        add("--no-report", dest="report", action="store_false", help="draw no map and no report")
        add("--seed", type=int, help="the same seed gives the same groups (default: 0)")
        engine(add)
        add("--store", help="what to keep the networks' features in: npy or lance (default: npy)")
        add("--anew", action="store_true", help="group anew what is sorted already (default: keep its groups)")
        work(add)

    add = verb("sort", "Sort images into groups; run again, it goes on where it was and places what is new.")
    add("source", nargs="?", help="a folder, .zip, .tar, .parquet, or .csv of paths; by default the project's own")
    add("-o", "--project", help="the folder to keep everything in (default: NAME.phyla here)")
    add("--domains", choices=["folder"], help="what label_shift goes by: each image's folder (a camera, a day)")
    how(add)
    add = verb("demo", "Run the main job on 1,797 handwritten digits that come with Phyla's libraries.")
    add("-o", "--project", default="phyla-demo", help="the folder to keep everything in (default: %(default)s)")
    how(add)
    of_project("show", "Tell what a project holds.")
    add = of_project("open", "Open a project in the browser: see, name, sort and check its images there.")
    add("--host", default="127.0.0.1", help="the address to answer at (default: %(default)s, this machine alone)")
    add("--port", type=int, default=0, help="(default: a free one)")
    add("--expose", action="store_true", help="allow a --host that others can reach; the link's token is their key")
    add("--no-browser", dest="browser", action="store_false", help="print the link, and leave the browser alone")
    add = of_project("name", "Give a group a name.")
    add("group", type=int)
    add("name")
    add = of_project("merge", "Make one class of several groups.")
    add("name")
    add("groups", type=int, nargs="+", metavar="group")
    add = of_project("split", "Divide a group into as many parts as there are names.")
    add("group", type=int)
    add("names", nargs="+", metavar="name", help="the first is for the largest part")
    add = of_project("suggest", "Tell which images to label next, and why.")
    add("-n", type=int, default=20, help="how many (default: %(default)s)")
    add("--method", default="auto", help="the way of asking (default: %(default)s); see phyla methods")
    add("--seed", type=int, default=0, help="the same seed asks the same (default: %(default)s)")
    processors(add)
    add = of_project("label", "Take in what people say of images.")
    add("answers", help="a CSV with the columns uri and label (or JSONL, or Parquet)")
    add("--unchecked", action="store_true", help="a list that may be wrong in places: it yields to every answer")
    add("--reject", action="store_true", help="the images are NOT of these classes")
    add("--by", default="", help="who says so (default: the user of this machine)")
    add = of_project("undo", "Take back what was said last.")
    add("seq", type=int, nargs="?", help="the number of an edit (default: the last that is in force)")
    of_project("redo", "Say again what the last undo took back.")
    add = of_project("remove", "Leave images out of everything from now on; their files stay.")
    add("images", nargs="+", metavar="uri")
    add = of_project("spread", "Spread the labels to all images, and accept those that are sure.")
    add("--method", default="anchored", help="the way of spreading (default: %(default)s); see phyla methods")
    add("--error", type=float, default=0.02, help="share of wrong ones to accept (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same seed gives the same labels (default: %(default)s)")
    engine(add)
    add("--no-report", dest="report", action="store_false", help="leave the report as it is")
    work(add)
    add = of_project("guess", "Guess which class each group is, through a network that reads words.")
    add("classes", nargs="+", metavar="class")
    add("--apply", action="store_true", help="name the groups so where the guess is surer than not")
    processors(add)
    add = of_project("audit", "Look for what is wrong with a collection.")
    add("--labels", help="a CSV of uri and label to check (default: what the project knows)")
    add("--checks", type=_listed, metavar="NAMES", help="with commas (default: all); see phyla methods")
    engine(add)
    add("--no-report", dest="report", action="store_false", help="leave the report as it is")
    work(add)
    add = of_project("search", "Find the images most like some pictures, or words.")
    add("like", nargs="*", default=(), metavar="picture", help="a file, or an image's uri; several are averaged")
    add("--words", default="", help="what the images shall show, where a network reads words")
    add("--without", nargs="+", default=(), metavar="PICTURE", help="pictures that they shall not be like")
    add("--minus", default="", metavar="WORDS", help="words for what they shall not show")
    add("-n", type=int, default=20, help="how many (default: %(default)s)")
    add = of_project("export", "Write the groups as a table, a folder with a folder a group, or for other tools.")
    add("to", help="OUT.csv, OUT.parquet, OUT.lance, or a folder")
    kinds = "csv, parquet, lance, folder, webdataset or fiftyone"
    add("--to", dest="kind", metavar="KIND", help=f"{kinds} (default: by OUT)")
    add("--images", action="store_true", help="put the images themselves into OUT.parquet or OUT.lance")
    add("--copy", action="store_true", help="put copies into the folders instead of links")
    add("--page", action="store_true", help="write the page as a folder that opens from the disk, to look at only")
    add("--force", action="store_true", help="replace a file or add to a folder that is there")
    quiet(add)
    add = of_project("train", "Teach a small classifier what a project knows; it runs without Phyla.")
    add("to", nargs="?", help="NAME.onnx, or a folder for a cascade (default: only show the choice)")
    add("--backbone", help="the network (default: the fastest of those that lose no more than a point)")
    add("--int8", dest="integer", action="store_true", help="compute in 8-bit integers: faster, half the size")
    add("--cascade", action="store_true", help="the fastest network first, the others only where it is in doubt")
    add("--budget", type=float, help="share of all networks' cost for a cascade (default: the least that loses little)")
    add("--error", type=float, default=0.02, help="share of wrong ones where it is sure (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same seed teaches the same (default: %(default)s)")
    add("--force", action="store_true", help="replace what is there")
    work(add)
    add = verb("predict", "Let a project, or a classifier in a file, say what new images are.")
    add("project", metavar="PROJECT|MODEL", help="a project, or what phyla train wrote: a .onnx, or a cascade's folder")
    add("source", help="the new images: anything that sort takes")
    add("-o", "--to", required=True, metavar="OUT", help="OUT.csv or OUT.parquet")
    add("--force", action="store_true", help="replace OUT if it is there")
    engine(add)
    work(add)
    add = of_project("explain", "Tell why an image is taken for what it is, or what a group is.")
    add("picture", nargs="?", help="an image of the project, or any picture file")
    add("--group", help="instead of a picture: the number of a group, or a class")
    add("--against", help="another group or class, instead of all the rest")
    add("-o", "--to", metavar="OUT", help="OUT.png (the picture, and where the networks look) or OUT.html (everything)")
    add("--force", action="store_true", help="replace OUT if it is there")
    work(add)
    add = verb("score", "Compare groups with known classes.")
    add("groups", metavar="PROJECT|OUT.csv", help="a project, or a table that predict or export wrote")
    add("truth", help="a CSV with the columns uri and label (or JSONL, or Parquet)")
    add = of_project("compare", "Rank networks, numbers of axes and methods, without labels.")
    add("--methods", type=_listed, metavar="NAMES", help="with commas (default: eight quick ones)")
    work(add)
    add = of_project("check", "Read all that a project holds, and tell what is damaged.")
    add("--repair", action="store_true", help="move what is damaged away, and make it again where it can be")
    work(add)
    add = verb("backbones", "List the networks.")
    add("--measure", action="store_true", help="time each on this machine")
    processors(add)
    verb("methods", "List every method, room by room.")
    return top


def _listed(names: str) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names else None
