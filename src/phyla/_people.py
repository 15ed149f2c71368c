"""What people say of a project, what they are asked, and how far their answers reach."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyla import plugins, sources
from phyla._looking import Looking
from phyla._needs import needs
from phyla._opened import LOG
from phyla._progress import Progress
from phyla._spreading import spread
from phyla._steps import Spaces, check_seed, usable_threads
from phyla._telling import draw
from phyla.cluster import LANDMARKS
from phyla.engine import LOCAL, check_engine, limited
from phyla.label import Said
from phyla.store import Busy
from phyla.types import UNSORTED, PhylaError, Recipe

_STAND_FOR = 100  # typical images that a group's name is remembered by
_MANY = 100_000  # images above which those to ask about are looked for among some: a million's neighbours take minutes


class People(Looking):
    """A project that people name, answer and correct. Everything they say is a line of a log; nothing is forgotten."""

    draws = True  # the report anew after whatever is said; a page that is open has no need of it

    # ---- saying

    def say(
        self, op: str, ids: Sequence[str] = (), name: str | None = None, *, by: str = "", of: int | None = None
    ) -> int:
        """Append one edit (see `phyla.types.Edit`) about the images `ids`; return its number."""
        with self._saying():
            return self._append(op, ids, [] if name is None else [name], by=by, of=of)

    def name(self, group: int, name: str) -> None:
        """Call a group `name`. The name is remembered of its most typical images, so it survives sorting again."""
        self.say("name", self._standing_for([group]), name)

    def merge(self, groups: Sequence[int], name: str) -> None:
        """Make one class called `name` of several groups."""
        self.say("merge", self._standing_for(groups), name)

    def split(self, group: int, names: Sequence[str]) -> list[int]:
        """Divide a group into as many parts as there are names, the largest first; return how many images each has."""
        parts = [self.images.ids[rows].tolist() for rows in self.parts(group, len(names))]
        called = [name for name, ids in zip(names, parts, strict=True) for _ in ids]
        with self._saying():
            self._append("split", [i for ids in parts for i in ids], called)
        return [len(ids) for ids in parts]

    def confirm(self, images: Sequence[str], name: str) -> None:
        """Say that each of `images` (their uris) is of the class `name`."""
        self.say("confirm", self._ids(images), name)

    def move(self, images: Sequence[str], name: str) -> None:
        """Say that each of `images` (their uris) is of the class `name`, whatever it was thought to be."""
        self.say("move", self._ids(images), name)

    def reject(self, images: Sequence[str], name: str) -> None:
        """Say that none of `images` (their uris) is of the class `name`."""
        self.say("reject", self._ids(images), name)

    def remove(self, images: Sequence[str]) -> None:
        """Say that `images` (their uris) shall not count: copies, say, or broken ones. Their files stay."""
        self.say("remove", self._ids(images))

    def undo(self, seq: int | None = None) -> int:
        """Take back the edit `seq`, by default the last that is in force; return its number."""
        from phyla.label import in_force

        edits = self.edits
        if seq is None:
            if not (standing := in_force(edits)):
                raise PhylaError("There is nothing to undo.", f"phyla label {self.store.place} ANSWERS.csv")
            seq = standing[-1].seq
        if seq not in {edit.seq for edit in edits}:
            raise PhylaError(f"There is no edit {seq}.", f"There are {len(edits)}, from 0.")
        self.say("undo", of=seq)
        return seq

    def redo(self) -> int:
        """Say again what the last undo took back; return the number of the edit. Only while nothing new was said."""
        if (last := self.redoable) is None:
            raise PhylaError("There is nothing to redo.", "What was said after an undo stands.")
        self.say("undo", of=last)
        return last

    def label(
        self, answers: str | Path | Mapping[str, str], *, unchecked: bool = False, reject: bool = False, by: str = ""
    ) -> dict[str, Any]:
        """Take in what a person says of images.

        Parameters
        ----------
        answers : uri → class, or a CSV, JSONL or Parquet file of them (the columns uri and label). A uri matches by its
            whole, else by the longest end that only one image has.
        unchecked : this is a list that nobody checked, and may be wrong in places: it yields to every answer.
        reject : the images are not of the classes.
        by : who says so; the user of this machine by default.

        Returns
        -------
        dict : `answers` (images that were found), `classes` (with how many of each), `unknown` (answers for images that
            are not in the project), `total` (images that people have answered for so far).
        """
        if isinstance(answers, Mapping):
            given = dict(answers)
        else:
            given = getattr(sources.open_source(answers), "labels", lambda: None)() or {}
        given = {uri: name.strip() for uri, name in given.items() if name.strip()}
        if not given:
            raise PhylaError(f"{answers} answers nothing.", "Give a CSV with the columns uri and label.")
        source = "the answers" if isinstance(answers, Mapping) else str(answers)
        said: dict[str, str] = {}  # image → class
        found = sources.match(list(given), self._id_of)
        for uri, name, of in zip(given, given.values(), found, strict=True):
            if of is not None and said.setdefault(of, name) != name:
                raise PhylaError(f"{source} calls {uri} {name}, and the same image {said[of]}.", "Keep one.")
        if not said:
            raise PhylaError(
                f"No image of the project is in {source}.",
                f"Its uris look like {next(iter(given))}, the project's like {next(iter(self._id_of))}.",
            )
        with self._saying():
            self._append("reject" if reject else "import" if unchecked else "confirm", said, said.values(), by=by)
        return {
            "answers": len(said),
            "classes": dict(Counter(said.values())),
            "unknown": sum(of is None for of in found),
            "total": int((self.said.person >= 0).sum()),
        }

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """Hold the log while edits are appended, then draw the report anew."""
        with self.store.appending(LOG):
            yield
        if self.draws:
            with suppress(Busy), self.store.writing():  # who holds the project draws it in the end
                draw(self, Progress(quiet=True))

    def _append(self, op: str, ids: Iterable[str], names: Iterable[str], *, by: str = "", of: int | None = None) -> int:
        """Append an edit; `names` is one for all images, or one for each."""
        classes = [name.strip() for name in names]
        if not all(classes):
            raise PhylaError("A name can't be empty.", "Give it at least one letter.")
        try:
            "".join((*classes, by)).encode()
        except UnicodeEncodeError as fault:  # what a terminal was given in another encoding
            told = ascii(fault.object[max(fault.start - 20, 0) : fault.end + 20])
            raise PhylaError(f"{told} is no text.", "Write it as UTF-8.") from fault
        if len(set(classes)) == 1:
            del classes[1:]
        seq = len(self.edits)
        edit = {"seq": seq, "op": op, "by": by or getpass.getuser(), "ids": list(ids), "classes": classes}
        edit |= {"of": of} if of is not None else {}
        self.store.append(LOG, edit | {"at": datetime.now(UTC).isoformat(timespec="seconds")})
        return seq

    def _standing_for(self, groups: Sequence[int]) -> list[str]:
        """Ids of the images that stand for the groups: of each in turn the most typical."""
        ranked = [self.images.ids[self.foremost(group, _STAND_FOR)] for group in groups]
        return [str(ids[rank]) for rank in range(_STAND_FOR) for ids in ranked if rank < len(ids)]

    @property
    def _id_of(self) -> dict[str, str]:
        """uri of each readable file, copies too → id of its image."""
        table = self._table
        fine = table["row"] >= 0
        return dict(zip(self._uris[fine].tolist(), self.images.ids[table["row"][fine]].tolist(), strict=True))

    def _ids(self, images: Sequence[str]) -> list[str]:
        found = sources.match(list(images), self._id_of)
        for uri, of in zip(images, found, strict=True):
            if of is None:
                raise PhylaError(f"{uri} is no image of the project.", f"Its uris look like {next(iter(self._id_of))}.")
        return [of for of in found if of is not None]

    # ---- asking

    def suggest(
        self, n: int = 20, *, method: str = "auto", seed: int = 0, threads: int | None = None
    ) -> list[dict[str, Any]]:
        """The n images whose classes would help most, most useful first.

        Returns
        -------
        list of dict : `uri`, `id`, `why` (the reason, for a person), `group`, and `guess`, the class it is taken for.
        """
        if n < 1:
            raise PhylaError(f"{n} images can't be suggested.", "Give a whole number from 1.")
        check_seed(seed)
        ask = plugins.load("label.ask", method)
        threads = usable_threads(threads)
        with limited(threads):
            offered = self._offered(threads)
            if len(self.grouping.best) > _MANY:
                offered |= {"neighbors": lambda: self._neighbors_of_some(threads), "X": lambda: self._read_when_asked}
            given, lacking = needs(ask, offered)
            if lacking:
                raise PhylaError(
                    f"{method} goes by the {lacking[0]} of a spread, and there is none yet.",
                    f"Answer what phyla suggest {self.store.place} asks, then phyla spread {self.store.place}.",
                )
            removed = self.said.removed  # images without an answer, that nobody shall be asked about
            asked = ask(min(n + int(removed.sum()), len(removed)), np.random.default_rng(seed), **given)
        asked = [(row, why) for row, why in asked if not removed[row]][:n]
        labels, grouping = self.labels, self.grouping
        names = [*labels.classes, ""]
        return [
            {"uri": str(self.images.uris[row]), "id": str(self.images.ids[row]), "why": why,
             "group": int(grouping.best[row]), "guess": names[labels.codes[row]]}
            for row, why in asked
        ]  # fmt: skip

    def _answers(self, said: Said | None = None) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """The class of each image that anybody knows, −1 for the others, and the classes that have one."""
        said = said or self.said
        codes = said.person.copy()
        for other in (said.imported, said.seen):  # the surest word counts
            codes = np.where(codes < 0, other, codes)
        for row, code in said.rejected:
            codes[row] = UNSORTED if codes[row] == code else codes[row]
        codes[said.removed] = UNSORTED
        used, packed = np.unique(codes[codes >= 0], return_inverse=True)
        codes[codes >= 0] = packed
        return codes.astype(np.int32), tuple(said.classes[c] for c in used)

    def _offered(self, threads: int, engine: str = LOCAL, quiet: bool = True) -> dict[str, Callable[[], Any]]:
        """Name → what gives it: all that a way of asking, or a check, can need."""
        grouping = self.grouping
        answers, classes = self._answers()

        def proba() -> NDArray[np.float32] | None:
            stage = self._spread
            if not stage or self.store.read_json(f"{stage}/classes.json") != list(classes):
                return None
            return self._array(stage, "proba").astype(np.float32)

        return {
            "X": lambda: self.near,
            "groups": lambda: grouping.best,
            "strength": lambda: grouping.strength,
            "labels": lambda: answers,
            "classes": lambda: classes,
            "neighbors": lambda: self.neighbors(threads, engine, quiet),
            "proba": proba,
            "n_jobs": lambda: threads,
        }

    def guess(self, classes: Sequence[str], *, apply: bool = False, threads: int | None = None) -> list[dict[str, Any]]:
        """Guess which of `classes` each group is, by their names alone, through a network that reads words.

        Parameters
        ----------
        classes : the names, as plain nouns. apply : name the groups so where the guess is surer than not.

        Returns
        -------
        list of dict : `group`, `name`, `sureness` (0..1), the surest first.
        """
        from phyla._guessing import guess

        told = guess(self, *self._answers(), classes, usable_threads(threads))
        sure = [row for row in told if row["sureness"] >= 0.5]
        if apply and sure:
            with self._saying():
                for row in sure:
                    self._append("name", self._standing_for([row["group"]]), [row["name"]])
        return told

    # ---- auditing

    def audit(
        self,
        labels: str | Path | None = None,
        *,
        checks: Sequence[str] | None = None,
        engine: str = LOCAL,
        threads: int | None = None,
        report: bool = True,
        quiet: bool = True,
    ) -> dict[str, Any]:
        """Look for what is wrong with the collection: copies, outliers, wrong labels, broken pictures, hidden causes.

        Parameters
        ----------
        labels : a CSV, JSONL or Parquet file of uri and label, or a table of pictures with a `label` column, to be
            checked; by default what the project knows of its images.
        checks : which; all by default. See `phyla methods`.
        engine : who reads and measures the pictures, and finds their neighbours; as for `sort`.
        threads : at most this many; all of the machine's by default.

        Returns
        -------
        dict : `findings` that nobody has dealt with, most severe first, of `check`, `uri` (of the first image),
            `severity` (0.5 = worth a look, 1 = sure), `why`, `uris` (of all images concerned, but for those that were
            removed); `skipped`: check → what it lacked.
        """
        from phyla._auditing import audit

        return audit(
            self, self._offered(usable_threads(threads), engine, quiet), labels, checks, engine, threads, report, quiet
        )

    # ---- spreading

    def _spread_recipe(self, how: Recipe, answers: NDArray[np.int32], classes: Sequence[str]) -> Recipe:
        """`how` of these answers, in the project as it is."""
        digest = sha256(answers.tobytes() + repr(tuple(classes)).encode()).hexdigest()
        told = (f"landmarks {LANDMARKS}",) if len(answers) > LANDMARKS else ()
        return replace(how, inputs=(self._current("groups"), *self._current("reduced"), digest, *told))

    def spread(
        self, *, method: str = "anchored", error: float = 0.02, seed: int = 0, engine: str = LOCAL,
        threads: int | None = None, report: bool = True, quiet: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Give every image the class that the answers make likely, and accept what is sure enough.

        Parameters
        ----------
        method : see `phyla methods`. error : the share of wrong ones to accept. The others wait for a person.
        engine : who labels the images beyond those that it is learnt from; as for `sort`.

        Returns
        -------
        dict : `answers`, `classes` (with how many images each), `accepted`, `stated_error` (expected among them; None
            with fewer than 30 answers drawn to check: then what is accepted is more likely right than not).
        """
        if not 0 < error < 1:
            raise PhylaError(f"An error of {error} can't be aimed at.", "Give a share between 0 and 1, such as 0.02.")
        check_seed(seed)
        check_engine(engine)
        answers, classes = self._answers()
        if not len(classes):
            raise PhylaError("Nothing is labelled yet, so nothing can be spread.", f"phyla suggest {self.store.place}")
        version = plugins.load("label.spread", method).VERSION
        threads, progress, seen = usable_threads(threads), Progress(quiet), len(self.edits)
        recipe = self._spread_recipe(Recipe("spread", method, {"error": error}, (), version, seed), answers, classes)
        X, groups = Spaces(self.store, tuple(self._current("reduced"))), self.grouping.best
        with self.store.writing(), limited(threads):
            with progress("spreading", len(X), len(X)) as advance:
                known = self.blocks, answers, groups, classes
                stage = spread(self.store, recipe, X, *known, threads, engine, advance)
            self.store.update_meta(spread=stage, spread_edits=seen)
            if report:
                draw(self, progress)
        told: dict[str, Any] = self.show()["spread"]
        return told
