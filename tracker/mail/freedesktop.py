"""The freedesktop fork of patchwork (dlespiau's, docs/rest.rst): REST 1.0 with series and revisions.

``/api/1.0/projects/<name>/series/`` gives ``{count, next, results}``; a revision is one mbox. The cursor is
the newest ``last_updated`` that was read, with the revisions that were. Comments are not in this API.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from tracker.errors import SourceError
from tracker.mail.polite import SMALL_ANSWER, PoliteClient, RefusedError
from tracker.mail.source import Cursor, RawMail
from tracker.mail.spool import Spool
from tracker.settings import DriverProfile

MAX_PAGES = 400
MAX_REVISIONS = 60  # of one series
MAX_MBOX = 64 * 1024 * 1024  # bytes of one revision
KNOWN_SERIES = 2000

_JSON = ("application/json",)
_MBOX = ("text/plain", "application/mbox", "application/octet-stream")


class FreedesktopWalk:
    """One sync of one project."""

    def __init__(self, http: PoliteClient, root: str, project: str, profile: DriverProfile) -> None:
        """``root``: the server's URL with a slash at its end."""
        self._http = http
        self._api = f"{root}api/1.0/"
        self._project = project
        self._profile = profile
        self.end: Cursor = {}

    def read(self, cursor: Cursor) -> Iterator[RawMail]:
        """The revisions that are new, the series that was updated first, first."""
        updated = str(cursor.get("updated", ""))
        had: dict[str, int] = dict(cursor.get("revisions", {}))
        state: Cursor = {"shape": "freedesktop", "updated": updated, "revisions": had}
        self.end = state
        for when, number, version in sorted(self._changed(updated)):
            for revision in range(had.get(str(number), 0) + 1, min(version, MAX_REVISIONS) + 1):
                path = f"series/{number}/revisions/{revision}/mbox/"
                with self._revision(path) as spool:
                    for entry in spool.in_order():
                        yield RawMail(f"{path}#{entry.message_id}", spool.read(entry), entry.size, state)
                had = {**had, str(number): revision}
                state = {**state, "revisions": had}
            newest = dict(list(had.items())[-KNOWN_SERIES:])
            state = {"shape": "freedesktop", "updated": max(updated, when), "revisions": newest}
            self.end = state

    def fetch(self, location: str) -> bytes | None:
        """A mail of a revision again: ``<path>#<Message-ID>``."""
        path, _, message_id = location.partition("#")
        with self._revision(path) as spool:
            return spool.find(message_id)

    def _changed(self, since: str) -> list[tuple[str, int, int]]:
        """(last update, id, newest version) of the driver's series updated at or after ``since``."""
        found: list[tuple[str, int, int]] = []
        query = urlencode({"ordering": "-last_updated", "perpage": "100"})
        url = f"{self._api}projects/{self._project}/series/?{query}"
        previous = "9999"
        for _ in range(MAX_PAGES):
            page = self._json(url)
            results = page.get("results")
            ordered = True
            for item in results if isinstance(results, list) else []:
                when, number, version = (
                    (item.get("last_updated"), item.get("id"), item.get("version"))
                    if isinstance(item, dict)
                    else (None, None, None)
                )
                if not (isinstance(when, str) and isinstance(number, int) and isinstance(version, int)):
                    continue
                ordered = ordered and when <= previous
                previous = when
                if when >= since and self._profile.named_in(str(item.get("name", ""))):
                    found.append((when, number, version))
            following = page.get("next")
            # A server that does not order its answers is read to the end.
            if not isinstance(following, str) or not following or (ordered and previous < since):
                return found
            url = self._http.own(following, url)
        raise SourceError(f"{self._api} lists more than {MAX_PAGES} pages of series")

    def _revision(self, path: str) -> Spool:
        spool = Spool()
        try:
            with tempfile.TemporaryFile(prefix="xdnawatch-") as packed:
                self._http.download(self._http.own(path, self._api), packed, _MBOX, limit=MAX_MBOX)
                spool.add_mbox(packed)
        except RefusedError as error:
            if error.status != 404:  # a revision whose mails never came
                spool.close()
                raise
        except BaseException:
            spool.close()
            raise
        return spool

    def _json(self, url: str) -> dict[str, Any]:
        _, raw = self._http.get(url, _JSON, limit=SMALL_ANSWER)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{url} gave damaged JSON: {error}") from error
        if not isinstance(found, dict):
            raise SourceError(f"{url} gave no listing; is this a freedesktop patchwork?")
        return found
