"""Pictures as the page shows them: small, whole, many beside each other, and where the networks look."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from phyla.app import _asked as asked
from phyla.app._asked import Refused
from phyla.app._thumbs import Thumbs, lost, shade, sheet
from phyla.project import Project
from phyla.types import PhylaError

_MOST_IN_SHEET = 200
_FOR_GOOD = {"Cache-Control": "private, max-age=31536000, immutable"}  # an address names the view: it never changes


class Pictures:
    def __init__(self, project: Project, thumbs: Thumbs) -> None:
        self.project = project
        self.thumbs = thumbs

    def thumb(self, request: Request) -> Response:
        row, side = asked.row(request, self.project), asked.number(request.query_params.get("side", 96), "side")
        if side not in asked.SIDES:
            raise Refused(f"There are no pictures of {side} pixels.", f"There are: {', '.join(map(str, asked.SIDES))}.")
        headers = self._kept_for(request, f'"{self.project.images.ids[row]}-{side}"')
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            data = self.small(row, side).result()
        except (OSError, PhylaError) as fault:
            raise Refused(lost(fault).message, "", 410) from fault
        return Response(data, media_type="image/webp", headers=headers)

    def small(self, row: int, side: int) -> Future[bytes]:
        return self.thumbs.get(str(self.project.images.ids[row]), side, partial(self.project.thumbnail, row, side))

    def sheet(self, request: Request) -> Response:
        """Small pictures beside each other as one."""
        given, n = request.query_params, len(self.project.images)
        rows = [asked.number(row, "A row", 0, n - 1) for row in given.get("rows", "").split(",", _MOST_IN_SHEET - 1)]
        side = asked.number(given.get("side", 48), "side")
        ground = given.get("on", "ffffff").lower()
        if side not in asked.SHEET_SIDES:
            raise Refused(
                f"There are no sheets of {side} pixels.", f"There are: {', '.join(map(str, asked.SHEET_SIDES))}."
            )
        if len(ground) != 6 or set(ground) - set("0123456789abcdef"):
            raise Refused("on must be a colour.", "Six hexadecimal digits.")
        ids = [str(self.project.images.ids[row]) for row in rows]
        pictures = self.thumbs.several(ids, 96, lambda i: self.project.thumbnail(rows[i], 96))
        is_for_good = given.get("v") == self.project.view and None not in pictures
        headers = _FOR_GOOD if is_for_good else {"Cache-Control": "no-store"}
        return Response(sheet(pictures, side, tuple(bytes.fromhex(ground))), media_type="image/jpeg", headers=headers)

    def picture(self, request: Request) -> Response:
        row = asked.row(request, self.project)
        headers = self._kept_for(request, f'"{self.project.images.ids[row]}"')
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        try:
            data, kind = self.project.picture(row)
        except (OSError, PhylaError) as fault:
            raise Refused(lost(fault).message, "", 410) from fault
        return Response(data, media_type=kind, headers=headers)

    def heat(self, request: Request) -> Response:
        """What lies over a picture: dark where the networks don't look."""
        row, by, project = asked.row(request, self.project), request.query_params.get("by", "class"), self.project
        headers = self._kept_for(request, f'"{project.images.ids[row]}-{by}-{project.seq}"')
        try:
            data = shade(project.heat(row, by))
        except OSError as fault:
            raise Refused(lost(fault).message, "", 410) from fault
        if request.query_params.get("seq") != str(project.seq):
            headers["Cache-Control"] = "no-cache"
        return Response(data, media_type="image/webp", headers=headers)

    def _kept_for(self, request: Request, etag: str) -> dict[str, str]:
        """For good, where the address names the view that there is; another's rows mean other pictures."""
        is_now = request.query_params.get("v") == self.project.view
        return {"ETag": etag} | (_FOR_GOOD if is_now else {"Cache-Control": "no-cache"})
