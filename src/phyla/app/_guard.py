"""Who may ask: only pages of this server, opened with this run's token, under one of its own names."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LARGEST = 32 << 20  # bytes of a body: ten million rows, or a photograph


def refusal(error: str, hint: str, status: int) -> JSONResponse:
    """The one shape of whatever goes wrong."""
    return JSONResponse({"ok": False, "error": error, "hint": hint, "status": status}, status)


class Guard:
    """Lets through only what the token's holder asks from a page of our own.

    token : of this run, in the address that opens the page; a cookie holds it from then on. hosts : the names, with
    port, that the server answers to: a page of another name that leads here is not ours (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str]) -> None:
        self._app, self._token, self._hosts = app, token, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refused(scope)
        await (answer or self._app)(scope, _limited(receive), send_guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            return refusal("This server does not answer to that name.", "Open the address that phyla open tells.", 421)
        # Several pages, on several ports, share the cookies of a host.
        cookie = f"phyla_{host.rpartition(':')[2]}"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return refusal(f"{scope['method'][:20]} is not understood.", "", 405)
        origin = headers.get("origin")
        own = f"{scope['scheme']}://{host}"
        if origin != own if scope["method"] == "POST" or origin is not None else False:
            return refusal("Another page may not ask this server.", "Use the page that it serves.", 403)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token") if scope["path"] == "/" else None
        if given and self._is_token(given[0]):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie, self._token, httponly=True, samesite="strict", path="/")
            return answer
        try:
            held = SimpleCookie(headers.get("cookie", "")).get(cookie)
        except CookieError:
            held = None
        if held is None or not self._is_token(held.value):
            return refusal("The token of this run is missing.", "Open the address that phyla open tells.", 401)
        return None

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


class TooMuch(Exception):
    """A body is larger than anything that is asked for."""


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def receive_limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > _LARGEST:
            raise TooMuch
        return message

    return receive_limited
