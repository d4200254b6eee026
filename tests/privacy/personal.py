"""Every type of the product that holds personal data, found by what it is made of, and a value of each."""

import dataclasses
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

import devices
import runtime
import transport
from devices.personal import Kind, PersonalBytes, PersonalText

SECRET = "欧阳修远990101199202300753"  # noqa: S105 - of a citizen who does not exist
"""Stands in every personal value here."""
_MARKS = (SECRET.encode(), SECRET.encode("utf-16-le"), SECRET[4:].encode(), SECRET[:4].encode(), b"\\u6b27\\u9633")


def shows(said: str | bytes) -> bool:
    """Whether a part of the secret can be read in what was said; the masked forms of T22 cannot."""
    data = said.encode() if isinstance(said, str) else said
    return any(mark in data for mark in _MARKS) or SECRET.encode().hex() in data.hex()


def modules() -> list[ModuleType]:
    """Return every module of the product that the daemon can load."""
    packages = [(package.__path__, package.__name__) for package in (devices, runtime, transport)]
    names = [
        one.name
        for path, name in packages
        for one in pkgutil.walk_packages(path, f"{name}.")
        if not one.name.endswith("__main__")
    ]
    return [importlib.import_module(name) for name in (*names, "vision.wire", "vision.errors")]


def classes() -> list[type]:
    """Return every class that the product defines."""
    found = {
        one
        for module in modules()
        for one in vars(module).values()
        if inspect.isclass(one) and one.__module__.partition(".")[0] in {"devices", "runtime", "transport", "vision"}
    }
    return sorted(found, key=lambda one: (one.__module__, one.__qualname__))


def _is_made_of(hint: Any, known: set[type]) -> bool:
    return (isinstance(hint, type) and hint in known) or any(_is_made_of(inner, known) for inner in get_args(hint))


def personal_types() -> list[type]:
    """Return the two types for personal data, what is made from them, and every dataclass that holds one, by and by."""
    every = classes()
    known = {one for one in every if issubclass(one, (PersonalText, PersonalBytes))}
    holders = {one: _hints(one) for one in every if dataclasses.is_dataclass(one)}
    while more := {one for one, hints in holders.items() if any(_is_made_of(hint, known) for hint in hints)} - known:
        known |= more
    return sorted(known, key=lambda one: (one.__module__, one.__qualname__))


def _hints(kind: type) -> list[Any]:
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]))
    return [hints[field.name] for field in dataclasses.fields(kind)]


def sample(kind: type) -> Any:
    """Return a value of a personal type, the secret in every part of it that is personal."""
    if issubclass(kind, PersonalText):
        return kind(SECRET, Kind.TEXT)
    if issubclass(kind, PersonalBytes):
        return kind(SECRET.encode())
    hints = get_type_hints(kind, vars(sys.modules[kind.__module__]))
    fields = [field for field in dataclasses.fields(kind) if field.init]
    return _made(kind, {field.name: _part(hints[field.name]) for field in fields})


def _made(kind: type, values: dict[str, Any]) -> Any:
    """Make a value without the checks of its type: what is not personal of it is not there."""
    value = object.__new__(kind)
    for name, part in values.items():
        object.__setattr__(value, name, part)
    return value


def _part(hint: Any) -> Any:
    """Return a value for a field: a personal one where it holds such, something harmless otherwise."""
    inner = next(_kinds(hint), None)
    return sample(inner) if inner is not None else next((value for kind, value in _PLAIN if _is(hint, kind)), None)


def _is(hint: Any, kind: type) -> bool:
    plain = get_origin(hint) or hint
    return isinstance(plain, type) and issubclass(plain, kind)


def _kinds(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and _is_made_of(hint, set(_PERSONAL)):
        yield hint
    for inner in get_args(hint):
        yield from _kinds(inner)


_PERSONAL = personal_types()
_PLAIN: tuple[tuple[type, Any], ...] = ((bytes, b""), (str, "x"), (Mapping, {}), (int, 0), (tuple, ()))
