"""The catalogue of matters a citizen can apply for (T17): signed, versioned, switched as a whole."""

from typing import Any, Literal

import msgspec

from runtime.messages.entry import Entry

Device = Literal["idcard", "printer", "document_camera", "camera", "cardreader", "pinpad"]


class Material(msgspec.Struct, frozen=True):
    """A material that a matter wants: scanned with the document camera, at most so many pages."""

    id: str
    title: str
    title_en: str
    pages: int
    required: bool = True


class Matter(msgspec.Struct, frozen=True):
    """One matter: `form` is a JSON Schema (2020-12) of an object, `devices` the components it cannot do without.

    Each of `devices` is a Device; a text here, so that a terminal can say which one it does not know.
    """

    id: str
    version: int
    title: str
    title_en: str
    department: str
    form: dict[str, Any]
    materials: tuple[Material, ...]
    devices: tuple[str, ...]
    fee_fen: int = 0


class Catalogue(msgspec.Struct, frozen=True):
    """The content of a catalogue, as JSON; `in_force_unix` is when it was published."""

    version: int
    in_force_unix: int
    matters: tuple[Matter, ...]


class CatalogueRequest(msgspec.Struct, frozen=True):
    """Asks for the current catalogue; `have_version` is 0 when the terminal has none."""

    have_version: int


class CatalogueIssue(msgspec.Struct, frozen=True):
    """The catalogue: `content` is the JSON of a Catalogue, `signature` the platform's over `catalogue_content`."""

    version: int
    content: bytes
    signature: bytes


class CatalogueCurrent(msgspec.Struct, frozen=True):
    """The terminal has the current catalogue."""

    version: int


def catalogue_content(version: int, digest: bytes) -> bytes:
    """Return the bytes that the platform signs: the version and the SM3 digest of the content."""
    return msgspec.msgpack.encode(["govterm-catalogue", 1, version, digest])


ENTRIES: dict[type[msgspec.Struct], Entry] = {
    CatalogueRequest: Entry("catalogue.request", 1, personal=False, limit_bytes=256),
    CatalogueIssue: Entry("catalogue.issue", 1, personal=False, limit_bytes=2_000_000),
    CatalogueCurrent: Entry("catalogue.current", 1, personal=False, limit_bytes=256),
}
