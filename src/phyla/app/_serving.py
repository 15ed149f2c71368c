"""The page's process: where it listens, what it is called, and that it gives memory back."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from contextlib import suppress
from threading import Thread, Timer

from phyla.app._server import application
from phyla.project import Project
from phyla.types import PhylaError

_WARM_AT_MOST = 1.5  # seconds; of a million images it takes longer, and the page says that it is opening
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # of glibc's malloc.h


def serve(
    project: Project,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    open_browser: bool = True,
    expose: bool = False,
) -> None:
    """Show `project` in the browser until interrupted.

    Parameters
    ----------
    host : where to listen. Another than this machine itself is refused unless `expose`: whoever reads the address then
        sees the pictures and may change what was said.
    port : 0 takes a free one. token : a new one each time.
    """
    if host not in ("127.0.0.1", "localhost", "::1") and not expose:
        raise PhylaError(
            f"{host} can be reached from other machines.", "Say so: --expose. Who has the address can then do all."
        )
    _be_thrifty()
    token = token or secrets.token_urlsafe(24)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    app = application(project, token=token, hosts=[_with_port(name, port) for name in _names(host)])
    warming = Thread(target=app.state.server.warm, name="warming", daemon=True)
    warming.start()
    import uvicorn

    warming.join(_WARM_AT_MOST)  # the page then has at once what it shows first
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    address = f"http://{_with_port(shown, port)}/?token={token}"
    print("Open", address, flush=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, lifespan="on"
    )
    server = uvicorn.Server(config)
    if open_browser:
        import webbrowser

        Timer(0.3, webbrowser.open, (address,)).start()
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def _be_thrifty() -> None:
    """Have the C library give memory back: every thread that ever held a large array would keep room for it."""
    if sys.platform == "linux":
        import ctypes

        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_ARENA_MAX, 2)
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP, or asyncio leaves Nagle's algorithm on: every answer then waits 40 ms for an acknowledgement.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who has the address is not refused while the server still starts
    except (OSError, OverflowError) as fault:
        listening.close()
        why = fault.strerror if isinstance(fault, OSError) else "a port is a number from 0 to 65535"
        raise PhylaError(f"{_with_port(host, port)} can't be listened at: {why}.", "Ask for another --port.") from fault
    return listening


def _names(host: str) -> set[str]:
    names = {"127.0.0.1", "localhost", "::1", host}
    if host not in ("127.0.0.1", "localhost", "::1"):
        own = socket.gethostname()
        names |= {own, socket.getfqdn()}
        with suppress(OSError):
            names |= {str(told[4][0]) for told in socket.getaddrinfo(own, None)}
    return names - {"0.0.0.0", "::"}


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
