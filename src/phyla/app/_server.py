"""The server: paths, each of which asks the project one thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from phyla._searching import Seen
from phyla.app import _asked as asked
from phyla.app import _classifier as classifier
from phyla.app._asked import Refused
from phyla.app._events import Events
from phyla.app._guard import Guard, TooMuch, refusal
from phyla.app._jobs import Jobs, Running
from phyla.app._openapi import document
from phyla.app._page import KINDS, page
from phyla.app._pictures import Pictures
from phyla.app._thumbs import Thumbs
from phyla.project import Project
from phyla.store import Busy
from phyla.types import PhylaError

_PICTURES_KEPT = 500
_FIRST_CARDS, _FACES = 20, 8  # about what a page shows first


class Server:
    """A project and what is kept beside it while a page shows it."""

    def __init__(self, project: Project) -> None:
        project.draws = False  # the report anew after each edit: nobody waits for it
        self.project = project
        self.thumbs = Thumbs(project.folder)
        self.pictures = Pictures(project, self.thumbs)
        self.events = Events(self.state)
        self.jobs = Jobs(project, self.events.tell)
        self.saying = Lock()
        self.seen: dict[tuple[str, str], int | Seen] = {}  # given to search by, and the view they were seen in

    def state(self) -> dict[str, Any]:
        project = self.project
        return {"seq": project.seq, "view": project.view, "job": self.jobs.now}

    def warm(self) -> None:
        """Make beforehand what the first view asks for. What goes wrong is told when it is asked for."""
        with suppress(Exception):
            cards = sorted(self.project.cards("group"), key=lambda card: -card["size"])[:_FIRST_CARDS]
            self.project.cards("class")
            self.project.summary()
            for row in [row for card in cards for row in card["typical"][:_FACES]]:
                self.pictures.small(row, 96)  # nobody waits for it

    # ---- asking

    def summary(self, request: Request) -> Any:
        return self.project.summary() | {"job": self.jobs.now, "drift": self.project.drift}

    def cards(self, request: Request) -> Any:
        return self.project.cards(request.query_params.get("by", "group"))

    def rows(self, request: Request) -> Any:
        given = request.query_params
        return self.project.rows_of(given.get("of", "all"), given.get("order", "typical"))

    def image(self, request: Request) -> Any:
        return self.project.image(asked.row(request, self.project))

    def tree(self, request: Request) -> Any:
        return self.project.tree(request.query_params.get("key", ""))

    def history(self, request: Request) -> Any:
        return self.project.history(asked.number(request.query_params.get("n", 200), "n", 1, asked.MOST_HISTORY))

    def findings(self, request: Request) -> Any:
        return self.project.findings_of(request.query_params.get("check", ""))

    def ask(self, request: Request) -> Any:
        n = asked.number(request.query_params.get("n", 20), "n", 1, asked.MOST_ASKED)
        questions = self.project.suggest(n)
        rows = self.project.rows_with([question["id"] for question in questions]).tolist()
        return [
            {"row": row, "why": q["why"], "guess": q["guess"] or None, "options": self.project.options(row)}
            for row, q in zip(rows, questions, strict=True)
        ]

    def bought(self, request: Request) -> Any:
        return self.project.bought()

    def classifier(self, request: Request) -> Any:
        return classifier.choice(self.project, self.jobs)

    def array(self, request: Request) -> Any:
        return self.project.array(request.path_params["what"])

    def why(self, request: Request) -> Any:
        return self.project.why(asked.row(request, self.project))

    def about(self, request: Request) -> Any:
        return self.project.about(request.query_params.get("of", ""))

    def apart(self, request: Request) -> Any:
        given = request.query_params
        return self.project.apart(given.get("of", ""), given.get("against") or None)

    # ---- saying

    def say(self, told: dict[str, Any]) -> Any:
        project, n = self.project, len(self.project.images)
        op = told.get("op")
        with self.saying:
            if told.get("view", project.view) != project.view and op not in ("undo", "redo"):
                raise Refused("The images were sorted anew meanwhile.", "Load the page again: rows mean others.", 409)
            match op:
                case "name":
                    project.name(self._group(told.get("group")), asked.name(told.get("name")))
                case "merge":
                    groups = told.get("groups")
                    if not isinstance(groups, list) or not 0 < len(groups) <= project.grouping.n_groups:
                        raise Refused("groups must be a list of groups.")
                    project.merge([self._group(group) for group in groups], asked.name(told.get("name")))
                case "split":
                    names = told.get("names")
                    if not isinstance(names, list) or not 2 <= len(names) <= asked.MOST_PARTS:
                        raise Refused(f"names must be a list of 2 to {asked.MOST_PARTS} names.")
                    project.split(self._group(told.get("group")), [asked.name(name) for name in names])
                case "confirm" | "move" | "reject":
                    project.say(op, self._ids(told, n), asked.name(told.get("name")))
                case "remove":
                    project.say(op, self._ids(told, n))
                case "keep":
                    project.say(op, self._ids(told, n), asked.name(told.get("check")))
                case "undo":
                    which = told.get("seq")
                    if which is not None and asked.number(which, "seq") >= project.seq:
                        raise Refused(f"There is no edit {which}.", f"There are {project.seq}, from 0.", 404)
                    if which is None and not project.summary()["can_undo"]:
                        raise Refused("There is nothing to undo.", "", 409)
                    project.undo(which)
                case "redo":
                    if project.redoable is None:
                        raise Refused("There is nothing to redo.", "What was said after an undo stands.", 409)
                    project.redo()
                case _:
                    raise Refused("There is no such edit.", "op: name, merge, split, confirm, move, reject, …")
            seq = project.seq - 1
        self.events.tell()
        self.jobs.spread_if_due()
        return {"seq": seq}

    def _ids(self, told: dict[str, Any], n: int) -> list[str]:
        return self.project.images.ids[asked.rows(told.get("rows"), n)].tolist()

    def _group(self, value: Any) -> int:
        groups = self.project.grouping.n_groups
        try:
            return asked.number(value, "A group", 0, groups - 1)
        except Refused as fault:
            raise Refused(fault.message, "The view may have changed: load it again.", 404) from None

    def preview(self, told: dict[str, Any]) -> Any:
        return self.project.preview(
            self._group(told.get("group")), asked.number(told.get("parts"), "parts", 2, asked.MOST_PARTS)
        )

    def start(self, told: dict[str, Any]) -> Any:
        job = self.jobs.start(asked.text(told.get("what"), "what"))
        self.events.tell()
        return job

    def search(self, told: dict[str, Any]) -> Any:
        n = asked.number(told.get("n", 200), "n", 1, asked.MOST_ALIKE)
        given = {side: self._examples(told.get(side, {}), side) for side in ("like", "without")}
        said = {side: asked.text(told[side], side) if told.get(side) else "" for side in ("words", "minus")}
        return self.project.find(given["like"], said["words"], given["without"], said["minus"], n)[0].tolist()

    def _examples(self, told: Any, side: str) -> list[int | Seen]:
        if not isinstance(told, dict):
            raise Refused(f"{side} must be an object of rows and pictures.")
        n, pictures = len(self.project.images), told.get("pictures") or []
        if not isinstance(pictures, list) or not all(isinstance(i, str) for i in pictures):
            raise Refused("pictures must be a list of what came back for them.")
        rows = asked.rows(told["rows"], n).tolist() if told.get("rows") else []
        try:
            return [*rows, *(self.seen[i, self.project.view] for i in pictures)]
        except KeyError:
            raise Refused("This picture is not here any more.", "Give it again.", 404) from None

    async def see(self, request: Request) -> Response:
        """Look at a picture's bytes; what comes back stands for it in searches."""
        data = await request.body()
        seen = await run_in_threadpool(self.project.look, data)
        picture = sha256(data).hexdigest()[:16]
        while len(self.seen) >= _PICTURES_KEPT:
            self.seen.pop(next(iter(self.seen)), None)
        self.seen[picture, self.project.view] = seen
        return JSONResponse({"picture": picture})

    async def export(self, request: Request) -> Response:
        told = await asked.body(request)
        format = told.get("format")
        if format not in asked.EXPORTED:
            raise Refused("There is no such format.", f"There is: {', '.join(asked.EXPORTED)}.")
        project = self.project
        if "rows" in told:
            rows = asked.rows(told["rows"], len(project.images))
        else:
            rows = await run_in_threadpool(project.rows_of, asked.text(told.get("of", "all"), "of"))
        return self._download(await run_in_threadpool(project.take, rows, format), format)

    async def write(self, request: Request) -> Response:
        told = await asked.body(request)
        return self._download(await run_in_threadpool(classifier.write, self.jobs, self._name, told), "zip")

    def _download(self, pieces: Iterator[bytes], format: str) -> Response:
        headers = {"Content-Disposition": f'attachment; filename="{self._name}.{format}"'}
        return StreamingResponse(iterate_in_threadpool(pieces), media_type=asked.EXPORTED[format], headers=headers)

    @property
    def _name(self) -> str:
        return _plain(Path(self.project.store.name).stem)

    async def news(self, request: Request) -> Response:
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    # ---- the page

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name") or "index.html"
        file = page().get(name)
        if file is None:
            raise HTTPException(404)
        data = await run_in_threadpool(file.read_bytes)
        return Response(data, media_type=KINDS[file.suffix], headers={"Cache-Control": "no-cache"})

    def openapi(self, request: Request) -> Any:
        return document(self.routes())

    def routes(self) -> list[Route]:
        asks = {
            "summary": self.summary, "cards": self.cards, "rows": self.rows, "image/{row}": self.image,
            "tree": self.tree, "history": self.history, "findings": self.findings, "ask": self.ask,
            "bought": self.bought, "classifier": self.classifier, "array/{what}": self.array,
            "why/{row}": self.why, "about": self.about, "apart": self.apart,
        }  # fmt: skip
        says = {"edits": self.say, "preview": self.preview, "jobs": self.start, "search": self.search}
        return [
            *(Route(f"/api/{path}", _asking(work), methods=["GET"]) for path, work in asks.items()),
            *(Route(f"/api/{path}", _saying(work), methods=["POST"]) for path, work in says.items()),
            Route("/api/search/picture", self.see, methods=["POST"]),
            Route("/api/export", self.export, methods=["POST"]),
            Route("/api/classifier", self.write, methods=["POST"]),
            Route("/api/events", self.news, methods=["GET"]),
            Route("/api/openapi.json", _asking(self.openapi), methods=["GET"]),
            Route("/thumb/{row}", _asking(self.pictures.thumb), methods=["GET"]),
            Route("/sheet", _asking(self.pictures.sheet), methods=["GET"]),
            Route("/picture/{row}", _asking(self.pictures.picture), methods=["GET"]),
            Route("/heat/{row}", _asking(self.pictures.heat), methods=["GET"]),
            Route("/", self.page, methods=["GET"]),
            Route("/{name}", self.page, methods=["GET"]),
        ]


def _asking(work: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        return await run_in_threadpool(lambda: _answered(work(request)))

    return answer


def _saying(work: Callable[[dict[str, Any]], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        told = await asked.body(request)
        return await run_in_threadpool(lambda: _answered(work(told)))

    return answer


def _answered(told: Any) -> Response:
    if isinstance(told, Response):
        return told
    if isinstance(told, np.ndarray):
        return Response(np.ascontiguousarray(told).tobytes(), media_type="application/octet-stream")
    return JSONResponse(told)


def _plain(name: str) -> str:
    """A file's name that may stand in a header."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_ ") else "_" for c in name).strip() or "phyla"


async def _fault(request: Request, fault: Exception) -> Response:
    match fault:
        case HTTPException():
            error = "There is nothing here." if fault.status_code == 404 else str(fault.detail)
            return refusal(error, "", fault.status_code)
        case Refused():
            return refusal(fault.message, fault.hint, fault.status)
        case Busy() | Running():
            return refusal(fault.message, fault.hint, 409)
        case PhylaError():
            return refusal(fault.message, fault.hint, 404 if fault.message.startswith("There ") else 400)
        case TooMuch():
            return refusal("That is more than can be taken at once.", "Send less.", 413)
        case ClientDisconnect():
            return Response(status_code=499)
    return refusal("A fault of Phyla's own.", f"Please report it: {type(fault).__name__}.", 500)


def application(project: Project, *, token: str, hosts: Iterable[str]) -> Starlette:
    """The ASGI application that shows `project` to who holds `token`, under the names `hosts` (with their ports)."""
    server = Server(project)

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(server.events.watch())
        warming = asyncio.create_task(run_in_threadpool(server.warm))
        try:
            yield
        finally:
            watching.cancel()
            server.events.close()
            await asyncio.wait([warming])
            server.thumbs.close()

    app = Starlette(
        routes=server.routes(),
        lifespan=living,
        middleware=[Middleware(Guard, token=token, hosts=hosts)],
        exception_handlers={kind: _fault for kind in (HTTPException, PhylaError, TooMuch, ClientDisconnect, Exception)},
    )
    app.state.server = server
    return app
