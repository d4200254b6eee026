"""Publishes the catalogue of matters: each version signed, stored, announced, issued to who asks (T17)."""

import json
from dataclasses import dataclass

import msgspec
import structlog

from runtime.messages.line import CatalogueAnnouncement
from runtime.messages.matters import (
    Catalogue,
    CatalogueCurrent,
    CatalogueIssue,
    CatalogueRequest,
    Matter,
    catalogue_content,
)
from sim.platform.matters import catalogue
from sim.platform.services.desk import Desk, Handlers
from sim.wire import Verbs
from transport.sm import sm3

log = structlog.get_logger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS catalogues (
    version INTEGER PRIMARY KEY, content BLOB NOT NULL, digest BLOB NOT NULL, published_at INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Matters:
    """The service of matters; a new platform has version 1."""

    desk: Desk

    def __post_init__(self) -> None:
        self.desk.database.executescript(SCHEMA)
        if self.version == 0:
            self._store(1)
            self.desk.store.commit()

    @property
    def handlers(self) -> Handlers:
        """What it answers."""
        return {CatalogueRequest: self._issue}

    @property
    def verbs(self) -> Verbs:
        """What the rig's control socket may order."""
        return {"publish_catalogue": self.publish}

    @property
    def version(self) -> int:
        """The version in force."""
        return int(self.desk.database.execute("SELECT coalesce(max(version), 0) FROM catalogues").fetchone()[0])

    def publish(self) -> int:
        """Put the next version in force, announce it to every terminal and return its number."""
        version = self.version + 1
        digest = self._store(version)
        self.desk.order(CatalogueAnnouncement(version, digest))
        log.info("platform_published_catalogue", version=version)
        return version

    def catalogue(self, version: int) -> Catalogue | None:
        """Return a version that was published."""
        row = self.desk.database.execute("SELECT content FROM catalogues WHERE version = ?", (version,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Catalogue)

    def matter(self, version: int, matter: str) -> Matter | None:
        """Return a matter as it is in a version."""
        found = self.catalogue(version)
        return next((one for one in found.matters if one.id == matter), None) if found is not None else None

    def _store(self, version: int) -> bytes:
        now = self.desk.now()
        content = msgspec.json.encode(catalogue(version, now))
        digest = sm3(content)
        self.desk.database.execute("INSERT INTO catalogues VALUES (?, ?, ?, ?)", (version, content, digest, now))
        return digest

    def _issue(self, _terminal: str, request: CatalogueRequest) -> CatalogueIssue | CatalogueCurrent:
        version, how = self.version, self.desk.faults.catalogue
        if request.have_version >= version and how != "older":
            return CatalogueCurrent(version)
        row = self.desk.database.execute("SELECT content FROM catalogues WHERE version = ?", (version,)).fetchone()
        content = _spoiled(row[0], how)
        if how == "older":
            version = max(0, request.have_version - 1)
        signature = self.desk.signing.sign(catalogue_content(version, sm3(content)))
        if how == "signature":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return CatalogueIssue(version, content, signature)


def _spoiled(content: bytes, how: str | None) -> bytes:
    """Return the content as the fault wants it; it is signed as it is then."""
    if how == "json":
        return content[:-1]
    if how == "digest":
        return content + b" "
    if how in ("schema", "device"):
        said = json.loads(content)
        said["matters"][0] |= {"devices": ["crystal_ball"]} if how == "device" else {"form": {"type": "object"}}
        return json.dumps(said, ensure_ascii=False).encode()
    return content
