"""A signed version of the catalogue of matters: verified, read, and found fit for this terminal, or refused (T17)."""

import re
from typing import get_args

import msgspec

from runtime.messages.matters import Catalogue, Device, Matter, catalogue_content
from runtime.services.forms import BadForm, check_schema
from transport.errors import TransportError
from transport.sm import sm3
from transport.sm2 import PublicKey

MALFORMED = "catalogue.malformed"
OUTDATED = frozenset({"catalogue.outdated", "fee.changed", "matter.withdrawn"})
"""What the platform says where another version than the terminal's is in force."""
_NAME = re.compile("[a-z0-9_]{1,64}")


class CatalogueError(Exception):
    """A catalogue that is not switched to.

    Codes: `catalogue.none`, `catalogue.older`, `catalogue.bad_signature`, `catalogue.digest_mismatch`,
    `catalogue.malformed`, `catalogue.bad_schema`, `catalogue.unknown_device`, `catalogue.no_previous`.
    """

    retry = False

    def __init__(self, code: str, message: str, *, advice: str = "tell the platform's operator") -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice


def read_catalogue(platform_key: PublicKey, version: int, content: bytes, signature: bytes) -> Catalogue:
    """Return the catalogue of a signed content; raise CatalogueError."""
    try:
        platform_key.verify(signature, catalogue_content(version, sm3(content)))
    except TransportError:
        raise CatalogueError("catalogue.bad_signature", "the platform's signature does not verify") from None
    try:
        catalogue = msgspec.json.decode(content, type=Catalogue)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise CatalogueError(MALFORMED, "the content is no catalogue") from None
    names = [matter.id for matter in catalogue.matters]
    if catalogue.version != version or len(set(names)) != len(names) or not all(map(_is_sound, catalogue.matters)):
        raise CatalogueError(MALFORMED, "the content contradicts itself")
    if unknown := {name for matter in catalogue.matters for name in matter.devices} - set(get_args(Device)):
        raise CatalogueError("catalogue.unknown_device", f"{len(unknown)} devices that this release does not know")
    return catalogue


def check_form(matter: Matter) -> None:
    """Raise CatalogueError `catalogue.bad_schema` when the form of a matter is no form."""
    try:
        check_schema(matter.form)
    except BadForm as error:
        raise CatalogueError("catalogue.bad_schema", f"{matter.id}: {error}") from None


def _is_sound(matter: Matter) -> bool:
    materials = [material.id for material in matter.materials]
    are_names = all(map(_NAME.fullmatch, [matter.id, *materials]))
    is_once = len(set(materials)) == len(materials)
    return are_names and is_once and matter.fee_fen >= 0 and all(material.pages > 0 for material in matter.materials)
