"""What the families that download share: is the package here, are the weights here, does the hub answer."""

from __future__ import annotations

import json
import os
import ssl
import threading
import urllib.error
import urllib.request
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from phyla.types import PhylaError

INSTEAD = "Use the bundled network (--backbone lite0) or a file of yours (--backbone onnx:path/to/net.onnx)."
_PATIENCE = 1.5  # seconds for the hub to show a sign of life


def need(package: str, extra: str) -> None:
    """Raise unless `package` is installed; it is not imported, which can take seconds."""
    if find_spec(package) is None:
        raise PhylaError(f"{extra}: networks need the package {package}.", f"pip install 'phyla[{extra}]'")


def imported(package: str, extra: str) -> Any:
    """The module `package`. Torch and torchvision of unlike builds fail here, in many ways."""
    need(package, extra)
    try:
        return import_module(package)
    except Exception as fault:
        reason = str(fault).partition("\n")[0]
        raise PhylaError(
            f"{package} is installed but can't be imported: {reason}.",
            f"pip install --force-reinstall 'phyla[{extra}]'",
        ) from fault


def is_cached(repo: str, file: str = "*") -> bool:
    """Whether the local cache holds `file` of `repo`; both may be glob patterns."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    return any(hub.glob(f"models--{repo.replace('/', '--')}/snapshots/*/{file}"))


def reach_hub(name: str) -> None:
    """Raise within two seconds, naming the ways out, if the hub does not answer.

    Client libraries try again for minutes before they say so. With HF_HUB_OFFLINE set nothing is sent.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if not _answers(endpoint):
        _answers.cache_clear()  # the next call may find the network back
        raise PhylaError(f"{name} has to be downloaded, and {endpoint} can't be reached.", INSTEAD)


@cache
def _answers(endpoint: str) -> bool:
    heard: list[bool] = []

    def ask() -> None:
        try:  # a whole request, and not a bare connection: urllib knows the proxies, and a proxy always connects
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.build_opener().open(request, timeout=_PATIENCE).close()
        except urllib.error.HTTPError as fault:
            fault.close()
            heard.append(True)
        except urllib.error.URLError as fault:  # certificates are for the client library to judge
            heard.append(isinstance(fault.reason, ssl.SSLError))
        except (OSError, ValueError):
            heard.append(False)
        else:
            heard.append(True)

    # The timeout does not bound looking the name up, so the asking is left behind when time is up.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return bool(heard and heard[0])


def download(name: str, repo: str, files: tuple[str, ...]) -> Path:
    """Local path of the first of `files` that `repo` has: out of the cache if it is there, else from the hub."""
    hub = imported("huggingface_hub", "hf")
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        for file in files:
            if isinstance(found := hub.try_to_load_from_cache(repo, file), str):
                return Path(found)
        reach_hub(name)
        for file in files:
            try:
                return Path(hub.hf_hub_download(repo, file))
            except LocalEntryNotFoundError:  # a kind of EntryNotFoundError, but it means no connection
                raise
            except EntryNotFoundError:
                continue
    except GatedRepoError as fault:
        raise PhylaError(f"{repo} asks for an agreement.", "Accept it on its page and run: hf auth login") from fault
    except (HFValidationError, RepositoryNotFoundError) as fault:
        raise PhylaError(f"The hub has no {repo}, or keeps it private.", "Write hf:ORG/REPO. " + INSTEAD) from fault
    except PhylaError:
        raise
    except Exception as fault:  # huggingface_hub lets its HTTP client's own errors through
        reason = str(fault).partition("\n")[0]
        raise PhylaError(f"{name} could not be downloaded: {reason}", INSTEAD) from fault
    raise PhylaError(f"{repo} has no {' or '.join(files)}.", "hf: needs a repository with an ONNX export. " + INSTEAD)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise PhylaError(f"{path} can't be read: {fault}.", "It should hold one JSON object.") from fault
    if not isinstance(content, dict):
        raise PhylaError(f"{path} does not hold a JSON object.", 'It should look like {"size": 224, …}.')
    return content
