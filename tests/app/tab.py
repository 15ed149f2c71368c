"""A tab of the browser, as the tests of the page's server see it."""

from __future__ import annotations

from typing import Any

import numpy as np
from starlette.testclient import TestClient

from phyla.project import Project

HOST, TOKEN = "127.0.0.1:8000", "token-of-a-test"


class Page:
    """What a tab does: asks, and says."""

    def __init__(self, client: TestClient, project: Project) -> None:
        self.client, self.project = client, project

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(f"/api/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def array(self, path: str, kind: str = "<i4", **parameters: Any) -> Any:
        answer = self.client.get(f"/api/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return np.frombuffer(answer.content, kind)

    def post(self, path: str, told: Any) -> Any:
        answer = self.client.post(f"/api/{path}", json=told)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def say(self, op: str, **told: Any) -> int:
        return self.post("edits", {"op": op} | told)["seq"]

    def refused(self, path: str, told: Any, status: int) -> str:
        """The error with which what is said is refused; nothing has changed then."""
        before = self.get("summary")["seq"]
        answer = self.client.post(f"/api/{path}", json=told)
        assert answer.status_code == status, answer.text
        said = answer.json()
        assert said.keys() == {"ok", "error", "hint", "status"} and said["ok"] is False and said["status"] == status
        assert self.get("summary")["seq"] == before
        return said["error"]
