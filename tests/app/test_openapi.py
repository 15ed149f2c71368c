"""The OpenAPI document, and requests made from it by the hundred: none breaks the server, none loses an edit."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.schemas  # here, for deep in a test Python 3.11 may fail to compile it for pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.routing import Route
from tab import Page

from phyla.app._openapi import ASKS, SAYS, document
from phyla.project import Project
from phyla.types import PhylaError

ENDLESS = "/api/events"
# Those that begin a job are asked a few times only: the job has its own tests, and takes seconds.
LONG = {("POST", "/api/classifier"), ("POST", "/api/jobs")}
GENERATION = settings(
    derandomize=True, deadline=None, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def operations(page: Page) -> list[Any]:
    schema = schemathesis.openapi.from_dict(page.get("openapi.json"))
    return [found.ok() for found in schema.get_all_operations()]


def test_every_route_is_in_it(page: Page) -> None:
    routes = [route for route in page.client.app.routes if isinstance(route, Route)]
    told = document(routes)["paths"]
    assert page.get("openapi.json")["paths"] == json.loads(json.dumps(told))
    asked = {(method.upper(), path) for path, methods in told.items() for method in methods}
    assert asked == {("GET", path) for path in ASKS} | {("POST", path) for path in SAYS}


def test_every_edit_of_the_server_is_in_it(page: Page) -> None:
    ops = {op for edit in SAYS["/api/edits"]["oneOf"] for op in edit["properties"]["op"]["enum"]}
    refused = {op for op in ops if "no such edit" in page.client.post("/api/edits", json={"op": op}).text}
    assert ops == {"name", "merge", "split", "confirm", "move", "reject", "remove", "keep", "undo", "redo"}
    assert not refused


def check(page: Page, answer: Any) -> None:
    """An answer is of the kind that is promised, whatever was asked."""
    assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.text[:500])
    if answer.status_code >= 400:
        told = answer.json()
        assert told.keys() == {"ok", "error", "hint", "status"}
        assert told["ok"] is False and told["status"] == answer.status_code and told["error"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_what_is_made_from_the_document_breaks_nothing(page: Page, examples: int) -> None:
    said = 0
    for operation in operations(page):
        if operation.path == ENDLESS:
            continue
        few = (operation.method.upper(), operation.path) in LONG

        @settings(GENERATION, max_examples=3 if few else examples)
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal said
            asked = case.as_transport_kwargs(base_url=str(page.client.base_url))
            headers = {k: v for k, v in (asked.get("headers") or {}).items() if k.lower() == "content-type"}
            content = asked.get("data")
            if "json" in asked:
                content, headers = json.dumps(asked["json"]).encode(), {"Content-Type": "application/json"}
            before = page.project.seq
            answer = page.client.request(
                asked["method"], asked["url"], params=asked.get("params"), content=content, headers=headers
            )
            check(page, answer)
            if case.path == "/api/edits" and answer.status_code == 200:
                said += 1
                assert answer.json()["seq"] == before
            else:
                assert page.project.seq == before

        ask()
    assert len(Project(page.project.folder).edits) == said == page.project.seq


NAMES = st.one_of(st.text(max_size=210), st.sampled_from(["cat", "../../cat", "=1+1", "<script>", "\u202ecat", "a/b"]))
INTS = st.one_of(st.integers(-2, 130), st.integers(-(2**70), 2**70))
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), INTS, st.floats(), NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
OPS = ["name", "merge", "split", "confirm", "move", "reject", "remove", "keep", "undo", "redo", "import", "x"]
FINE = {
    "op": st.sampled_from(OPS), "group": st.integers(0, 3), "groups": st.lists(st.integers(0, 2), max_size=3),
    "name": NAMES, "names": st.lists(NAMES, min_size=1, max_size=3), "rows": st.lists(st.integers(0, 119), max_size=5),
    "check": st.sampled_from(["dark", "duplicates", "x"]), "seq": st.integers(0, 40),
}  # fmt: skip
EDIT = st.one_of(
    st.fixed_dictionaries(FINE),
    st.fixed_dictionaries({"op": FINE["op"]}, optional={k: st.one_of(v, JUNK) for k, v in FINE.items() if k != "op"}),
)


def test_every_edit_that_was_acknowledged_stays(page: Page, examples: int) -> None:
    told: list[tuple[int, str]] = []

    @settings(GENERATION, max_examples=10 * examples)
    @given(edit=EDIT)
    def say(edit: dict[str, Any]) -> None:
        answer = page.client.post(
            "/api/edits", content=json.dumps(edit).encode(), headers={"Content-Type": "application/json"}
        )
        check(page, answer)
        if answer.status_code == 200:
            told.append((answer.json()["seq"], edit["op"]))

    say()
    kept = Project(page.project.folder)
    ops = [edit.op for edit in kept.edits]
    assert len(told) > examples and [seq for seq, _ in told] == list(range(len(ops)))
    assert [("undo" if op == "redo" else op) for _, op in told] == ops
    kept.show()  # all of it can be brought to bear on the groups
    print(f"{len(told)} edits of {10 * examples} were acknowledged, and all are there")


@pytest.mark.parametrize("path", sorted({*ASKS, *SAYS}))
def test_a_stranger_is_told_nothing_on_any_path(page: Page, path: str) -> None:
    path = path.replace("{row}", "0").replace("{what}", "groups").replace("{name}", "page.js")
    for headers, status in (({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
        for method in ("GET", "POST"):
            answer = page.client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
            assert answer.status_code == status
            check(page, answer)


def test_no_web_socket_opens(page: Page) -> None:
    with pytest.raises(Exception) as closed, page.client.websocket_connect("/api/events"):
        pass
    assert type(closed.value).__name__ == "WebSocketDisconnect"


def test_a_project_error_is_no_fault_of_ours(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(self: Project) -> None:
        raise PhylaError("groups are damaged.", "phyla check --repair")

    monkeypatch.setattr(Project, "bought", damaged)
    answer = page.client.get("/api/bought")
    assert answer.status_code == 400
    check(page, answer)
