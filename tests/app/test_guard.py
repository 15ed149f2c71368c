"""Who is let in, and what hostile requests get."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient
from tab import HOST, TOKEN, Page

from phyla.app import serve
from phyla.app._guard import _LARGEST
from phyla.project import Project
from phyla.types import PhylaError

OWN = {"Origin": f"http://{HOST}"}


@pytest.fixture
def stranger(page: Page):
    """A client without the cookie."""
    return TestClient(page.client.app, base_url=f"http://{HOST}", follow_redirects=False)


def test_the_token_sets_a_cookie_and_leaves_the_address(stranger: TestClient) -> None:
    answer = stranger.get("/", params={"token": TOKEN})
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("phyla_8000=") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert stranger.get("/").status_code == 200
    assert stranger.get("/api/summary").status_code == 200


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/summary", "/api/events", "/thumb/0?side=96", "/picture/0"])
@pytest.mark.parametrize("token", [None, "", "wrong", "ü€\ud800".encode("utf-8", "replace").decode()])
def test_nothing_without_the_token(stranger: TestClient, path: str, token: str | None) -> None:
    if token is not None:
        stranger.cookies.set("phyla_8000", token.encode("ascii", "ignore").decode())
        answer = stranger.get(path, params={"token": token})
    else:
        answer = stranger.get(path)
    assert answer.status_code == 401
    assert answer.json()["ok"] is False


def test_the_cookie_of_another_port_is_none_of_ours(stranger: TestClient) -> None:
    stranger.cookies.set("phyla_8001", TOKEN)
    assert stranger.get("/api/summary").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1", "127.0.0.1:80", "", "127.0.0.1.evil.example:8000"]
)
def test_a_second_host_name_is_refused(page: Page, host: str) -> None:
    answer = page.client.get("/api/summary", headers={"Host": host})
    assert answer.status_code == 421 and answer.json()["ok"] is False


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:8000", "http://127.0.0.1:8001", ""]
)
@pytest.mark.parametrize("path", ["edits", "jobs", "export", "classifier", "search", "search/picture", "preview"])
def test_what_another_site_posts_is_refused(page: Page, path: str, origin: str) -> None:
    page.client.headers["Origin"] = origin
    answer = page.client.post(f"/api/{path}", json={"op": "name", "group": 0, "name": "stolen"})
    assert answer.status_code == 403
    page.client.headers.update(OWN)
    assert page.get("summary")["seq"] == 0


def test_a_post_must_tell_its_origin(page: Page) -> None:
    del page.client.headers["Origin"]
    assert page.client.post("/api/edits", json={"op": "undo"}).status_code == 403


def test_a_form_can_say_nothing(page: Page) -> None:
    answer = page.client.post("/api/edits", data={"op": "undo"})
    assert answer.status_code == 415
    answer = page.client.post("/api/edits", content=b'{"op": "undo"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/summary", "/thumb/0?side=96", "/picture/0", "/nothing"])
def test_every_answer_is_guarded(page: Page, path: str) -> None:
    headers = page.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"name"', b"\xff\xfe", b"[" * 100_000, b'{"op": NaN', b"{'op': 'undo'}"]
)
@pytest.mark.parametrize("path", ["edits", "preview", "jobs", "search", "export", "classifier"])
def test_malformed_json(page: Page, path: str, body: bytes) -> None:
    answer = page.client.post(f"/api/{path}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["status"] == 400


def test_a_huge_body_is_not_read(page: Page) -> None:
    sent = 0

    def endless():
        nonlocal sent
        while sent < 4 * _LARGEST:
            sent += 1 << 20
            yield b" " * (1 << 20)

    answer = page.client.post("/api/edits", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413 and answer.json()["ok"] is False


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(page: Page, method: str) -> None:
    answer = page.client.request(method, "/api/edits")
    assert answer.status_code == 405 and answer.json()["ok"] is False


@pytest.mark.parametrize(
    "path",
    [
        "/../phyla.json", "/..%2fphyla.json", "/%2e%2e/%2e%2e/etc/passwd", "/page/../../_server.py", "/secret.key",
        "/api/image/..%2f0", "/thumb/..%2f..%2fphyla.json?side=96", "/picture/%2fetc%2fpasswd", "/picture/0%00",
        "/_server.py", "/api/array/..%2fX", "/thumb/-1?side=96", "/thumb/1e2?side=96", "/thumb/120?side=96",
        "/thumb/٣?side=96", "/picture/99999999999999999999",
    ],
)  # fmt: skip
def test_no_path_leads_out(page: Page, path: str) -> None:
    answer = page.client.get(path)
    assert answer.status_code in (400, 404)
    assert answer.json()["ok"] is False


def test_beyond_this_machine_only_when_told(project: Project) -> None:
    with pytest.raises(PhylaError, match="other machines"):
        serve(project, host="0.0.0.0", open_browser=False)


def test_a_taken_port_is_told(project: Project) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PhylaError, match="can't be listened at"):
            serve(project, port=taken.getsockname()[1], open_browser=False)


def test_a_fault_of_our_own_tells_nothing_of_the_machine(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Project) -> None:
        raise RuntimeError("/home/somebody/secret")

    monkeypatch.setattr(Project, "bought", broken)
    client = TestClient(
        page.client.app, base_url=f"http://{HOST}", raise_server_exceptions=False, cookies=page.client.cookies
    )
    answer = client.get("/api/bought")
    assert answer.status_code == 500 and "somebody" not in answer.text
    assert json.loads(answer.text)["ok"] is False
