"""The log of edits, replayed over groups."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from phyla.label import Replay, in_force, replay, rows_among
from phyla.types import Edit

IDS = np.array([f"{i:02}" for i in range(12)])
GROUPS = np.repeat(np.arange(3, dtype=np.int32), 4)  # 00-03, 04-07, 08-11


def said(*edits: tuple[str, str | list[str], str], groups: Any = GROUPS, undone: tuple[int, ...] = ()) -> Any:
    log = [
        Edit(i, op, tuple(ids.split() if isinstance(ids, str) else ids), (c,)) for i, (op, ids, c) in enumerate(edits)
    ]
    log += [Edit(len(log) + i, "undo", of=seq) for i, seq in enumerate(undone)]
    return replay(log, IDS, groups)


def test_a_name_goes_to_the_group_that_holds_most_of_its_images() -> None:
    found = said(("name", "00 01 02 04", "cat"), ("name", "08 09", "dog"))
    assert found.names == {0: "cat", 2: "dog"} and found.classes == ("cat", "dog")
    other = np.array([2] * 3 + [0] * 5 + [1] * 4, np.int32)
    assert said(("name", "00 01 02 04", "cat"), ("name", "08 09", "dog"), groups=other).names == {2: "cat", 1: "dog"}


def test_a_merged_name_goes_to_each_group_that_holds_a_fair_part() -> None:
    found = said(("merge", "00 04 01 05 02 06 08", "pet"))
    assert found.names == {0: "pet", 1: "pet", 2: "pet"}  # one of three is more than a quarter
    many = np.repeat(np.arange(2, dtype=np.int32), [11, 1])
    assert said(("merge", [*IDS], "pet"), groups=many).names == {0: "pet"}


def test_the_later_word_counts() -> None:
    found = said(("confirm", "00 01", "cat"), ("move", "01", "dog"), ("name", "04", "a"), ("name", "05", "b"))
    assert found.person.tolist()[:3] == [0, 1, -1]
    assert found.names == {1: "b"}


def test_a_list_and_a_person_are_kept_apart() -> None:
    found = said(("confirm", "00", "cat"), ("import", "00 01", "dog"))
    assert found.person[0] == 0 and found.person[1] == -1
    assert found.imported[[0, 1]].tolist() == [1, 1]


def test_a_part_that_was_split_off() -> None:
    found = said(("split", "00 01", "left"), ("split", "02 03", "right"))
    assert found.parts.tolist() == [0, 0, 1, 1] + [-1] * 8
    assert (found.person == -1).all()


def test_what_is_rejected() -> None:
    found = said(("confirm", "00 01", "cat"), ("reject", "01 02", "cat"))
    assert found.person.tolist()[:3] == [0, -1, -1]
    assert found.rejected.tolist() == [[1, 0], [2, 0]]
    assert said(("reject", "01 02", "cat"), ("move", "01", "cat")).rejected.tolist() == [[2, 0]]


def test_a_dozen_of_a_hundred_were_seen_when_a_group_was_named() -> None:
    ids = np.array([f"{i:03}" for i in range(200)])
    found = replay([Edit(0, "name", tuple(ids[:100]), ("cat",))], ids, np.zeros(200, np.int32))
    assert np.flatnonzero(found.seen == 0).tolist() == list(range(12))
    few = replay([Edit(0, "name", tuple(ids[:20]), ("cat",))], ids, np.zeros(200, np.int32))
    assert np.flatnonzero(few.seen == 0).tolist() == list(range(12)), "of a small group as many"
    both = replay([Edit(0, "merge", tuple(ids), ("cat",))], ids, np.arange(200, dtype=np.int32) % 2)
    assert np.flatnonzero(both.seen == 0).tolist() == list(range(24)) and set(both.names) == {0, 1}


def test_what_was_seen_of_a_group_decides_where_its_name_belongs() -> None:
    """Of a group of 50, 9 of the 12 most typical are of one kind, and most of the others of another."""
    ids = np.array([f"{i:03}" for i in range(60)])
    now = np.where(np.arange(60) < 9, 1, 0).astype(np.int32)
    assert replay([Edit(0, "name", tuple(ids[:50]), ("banana",))], ids, now).names == {1: "banana"}
    now[6:9] = 0
    assert replay([Edit(0, "name", tuple(ids[:50]), ("banana",))], ids, now).names == {0: "banana"}


def plain(found: Any) -> str:
    return repr([v.tolist() if isinstance(v, np.ndarray) else v for v in vars(found).values()])


@pytest.mark.parametrize("op", ["name", "merge", "split", "confirm", "move", "import", "reject", "remove", "keep"])
def test_every_edit_can_be_undone_and_done_again(op: str) -> None:
    edit = (op, "00 01", "cat")
    assert plain(said(edit)) != plain(said())
    assert plain(said(edit, undone=(0,))) == plain(said())
    assert plain(said(edit, undone=(0, 1))) == plain(said(edit))


def test_two_undone_in_any_order() -> None:
    log = [Edit(i, "confirm", (str(i),), ("a",)) for i in range(4)]
    log += [Edit(4, "undo", of=1), Edit(5, "undo", of=3), Edit(6, "undo", of=4)]
    assert [e.seq for e in in_force(reversed(log))] == [0, 1, 2]


def test_images_that_are_gone_are_passed_over() -> None:
    found = said(("confirm", "00 zz", "cat"), ("name", "zz", "dog"), ("confirm", ["x" * 10_000], "a"))
    assert found.classes == ("cat",) and found.names == {} and (found.person >= 0).sum() == 1


def test_removed_images_and_findings_that_are_fine() -> None:
    found = said(("remove", "00 01", ""), ("keep", "02 03", "duplicates"), undone=())
    assert np.flatnonzero(found.removed).tolist() == [0, 1] and found.classes == ()
    assert found.kept == {("duplicates", "02"), ("duplicates", "03")}


def test_a_log_that_grows_says_what_the_whole_says() -> None:
    rng = np.random.default_rng(0)
    ops = ["name", "merge", "split", "confirm", "move", "import", "reject", "remove", "keep"]
    log: list[Edit] = []
    growing, rebuilt = Replay(partial(rows_among, IDS, np.argsort(IDS)), GROUPS), 0
    for seq in range(80):
        if seq and rng.random() < 0.25:
            log.append(Edit(seq, "undo", of=int(rng.integers(seq))))
            rebuilt += 1
        else:
            ids = tuple(rng.choice(IDS, rng.integers(1, 5), replace=False).tolist())
            log.append(Edit(seq, str(rng.choice(ops)), ids, (str(rng.choice(["a", "b", "c"])),)))
        if rng.random() < 0.6:
            assert plain(growing.take(log)) == plain(replay(log, IDS, GROUPS)), log
    assert rebuilt >= 10 and len(log) - rebuilt >= 40


def test_an_edit_may_call_each_image_otherwise() -> None:
    edit = Edit(0, "confirm", ("00", "zz", "05", "08"), ("cat", "cat", "dog", "cat"))
    found = replay([edit], IDS, GROUPS)
    assert found.classes == ("cat", "dog")
    assert {i: found.classes[c] for i, c in enumerate(found.person) if c >= 0} == {0: "cat", 5: "dog", 8: "cat"}
    assert (replay([edit, Edit(1, "undo", of=0)], IDS, GROUPS).person == -1).all()
