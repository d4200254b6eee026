"""Quality on arrival: shared data is whole, what its schema says, and not too old, or it is refused (S3).

The library of JSON Schema is imported when rows are first checked. No value of a row is ever in an error.
"""

import asyncio
import functools
from typing import Any

import msgspec

from runtime.messages.sharing import SharingAnswer
from runtime.services.resources import BY_NAME, Resource
from runtime.services.steps import Refused
from transport.sm import sm3

AHEAD_SECONDS = 300
"""Data may be this much younger than the platform's clock says it can be."""
ANSWER_BYTES = 512 * 1024
"""The rows of an answer, as JSON: they go to the UI in one line."""
_TOGETHER = 10
"""Rows checked before others have their turn: some 2 ms."""


async def arrived(resource: Resource, answer: SharingAnswer) -> list[dict[str, Any]]:
    """Return the rows of an answer that is as it should be; raise Refused with what is wrong.

    Codes: `sharing.wrong_resource`, `sharing.too_large`, `sharing.damaged`, `sharing.stale`, `sharing.bad_time`,
    `sharing.bad_rows`, `sharing.incomplete`.
    """
    if answer.resource != resource.name:
        raise Refused("sharing.wrong_resource", "another resource than asked for", retry=True)
    if len(answer.rows) > ANSWER_BYTES:
        raise Refused("sharing.too_large", f"{len(answer.rows)} bytes, limit {ANSWER_BYTES}", retry=False)
    check_digest(sm3(answer.rows), answer.digest)
    check_age(resource, answer.as_of_unix, answer.counted_unix)
    try:
        rows = msgspec.json.decode(answer.rows, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _bad_rows() from None
    _check_count(len(rows), answer.count)
    for number, row in enumerate(rows):
        await _check_row(resource, number, row)
    return rows


async def check_lines(resource: Resource, content: bytes, count: int) -> None:
    """Check a data set, a row a line; raise Refused `sharing.incomplete`, `sharing.bad_rows`."""
    *rows, rest = content.split(b"\n")
    if rest:
        raise _bad_rows()
    _check_count(len(rows), count)
    for number, line in enumerate(rows):
        await _check_row(resource, number, read_line(line))


def read_line(line: bytes) -> dict[str, Any]:
    """Return a row of a data set; raise Refused `sharing.bad_rows`."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _bad_rows() from None


def check_digest(found: bytes, said: bytes) -> None:
    """Raise Refused `sharing.damaged` unless the digest that was found is the one that was said."""
    if found != said:
        raise Refused("sharing.damaged", "the digest is another", retry=True)


def check_age(resource: Resource, as_of_unix: float, now_unix: float) -> None:
    """Raise Refused `sharing.stale` past the resource's freshness limit, `sharing.bad_time` for data of the future."""
    if now_unix - as_of_unix > resource.freshness_seconds:
        raise Refused("sharing.stale", f"older than {resource.freshness_seconds} s", retry=True)
    if as_of_unix - now_unix > AHEAD_SECONDS:
        raise Refused("sharing.bad_time", "from the future", retry=True)


def check_parameters(resource: Resource, parameters: dict[str, Any]) -> None:
    """Raise Refused `sharing.bad_parameters` unless they are the resource's."""
    if not _validator(resource.name, "parameters").is_valid(parameters):
        raise Refused("sharing.bad_parameters", "not what the resource's schema asks for", retry=False)


def _check_count(found: int, said: int) -> None:
    if found != said:
        raise Refused("sharing.incomplete", f"{found} rows, {said} were said", retry=True)


async def _check_row(resource: Resource, number: int, row: dict[str, Any]) -> None:
    try:
        is_valid = _validator(resource.name, "rows").is_valid(row)
    except RecursionError:  # nested too deeply for the words of what is wrong
        is_valid = False
    if not is_valid:
        raise _bad_rows()
    if number % _TOGETHER == _TOGETHER - 1:
        await asyncio.sleep(0)


@functools.cache
def _validator(resource: str, schema: str) -> Any:
    from jsonschema.validators import Draft202012Validator

    return Draft202012Validator(getattr(BY_NAME[resource], schema))


def _bad_rows() -> Refused:
    return Refused("sharing.bad_rows", "not what the resource's schema says", retry=True)
