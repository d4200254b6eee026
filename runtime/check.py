"""Validates a TOML document against msgspec Structs key by key, so that every mistake is told at once.

Knows no key of its own: `runtime.config` says what a configuration holds.
"""

import codecs
import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import inspect, structs

_SHOWN = 60
_SECRET = re.compile(r"password|passphrase|secret|token|pin\b")

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: the dotted path of its key (or `line 3, column 5`), what was expected and what was found."""

    key: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.key}: expected {self.expected}; found {self.found}"


def parse_toml(data: bytes) -> tuple[dict[str, Any], list[Mistake]]:
    """Parse a TOML document; a syntax error is one mistake with its line and column."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return tomllib.loads(data.decode()), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return {}, [Mistake(f"line {line}", "UTF-8 text", f"the byte 0x{data[error.start]:02x}")]
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        where = where.rstrip(")")
        if where == "end of document":
            where = f"line {max(1, len(data.splitlines()))}"
        return {}, [Mistake(where, "TOML", what[:1].lower() + what[1:])]


def convert(
    data: Mapping[str, Any], kind: type[S], path: str = "", *, right: dict[str, Any] | None = None
) -> tuple[S | None, list[Mistake]]:
    """Build a `kind` from `data`, or return None and every mistake in it.

    `right` takes each value that is right by itself, defaults too, under its dotted key.
    """
    right = {} if right is None else right
    fields = {field.encode_name: field for field in structs.fields(kind)}
    mistakes = [_unknown(path, key, data[key], sorted(set(fields) - set(data))) for key in data if key not in fields]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        key = f"{path}{name}"
        section = section_of(field.type)
        inner: list[Mistake] = []
        if name not in data:
            inner = _missing(key, field.type, section) if field.required else []
            right |= {} if field.required else _default(key, field.default)
        elif section is None:
            values[field.name], inner = _value(key, data[name], field.type)
            if not inner:
                right[key] = values[field.name]
        elif isinstance(data[name], dict):
            values[field.name], inner = convert(data[name], section, f"{key}.", right=right)
        else:
            inner = [Mistake(key, f"a section [{key}]", _found(key, data[name]))]
        mistakes += inner
    if mistakes:
        return None, mistakes
    try:
        return kind(**values), []
    except ValueError as error:  # what a Struct says of keys that do not fit together
        return None, [Mistake(path.rstrip("."), "keys that fit together", str(error))]


def section_of(kind: Any) -> type[msgspec.Struct] | None:
    """Return the Struct of a field that is a section, also of one that may be left out; None for any other field."""
    for one in get_args(kind) or (kind,):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def describe(kind: Any) -> str:
    """Say in words what a field's type accepts, with its limits."""
    return _describe(inspect.type_info(kind))


def _unknown(path: str, key: str, value: Any, known: list[str]) -> Mistake:
    near = difflib.get_close_matches(key.lower(), known, n=1)
    hint = f"`{path}{near[0]}` (did you mean this?)" if near else "no such key"
    shown = key if key.isprintable() else ascii(key)
    return Mistake(f"{path}{shown}", hint, "a section" if isinstance(value, dict) else "an unknown key")


def _missing(key: str, kind: Any, section: type[msgspec.Struct] | None) -> list[Mistake]:
    if section is None:
        return [Mistake(key, describe(kind), "nothing")]
    needed = ", ".join(field.encode_name for field in structs.fields(section) if field.required)
    return [Mistake(key, f"a section [{key}] with {needed}" if needed else f"a section [{key}]", "nothing")]


def _default(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, msgspec.Struct):
        return {f"{key}.{name}": getattr(value, name) for name in value.__struct_fields__}
    return {key: value}


def _value(key: str, value: Any, kind: Any) -> tuple[Any, list[Mistake]]:
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None, [Mistake(key, describe(kind), _found(key, value))]
    if isinstance(converted, float) and not math.isfinite(converted):
        return None, [Mistake(key, describe(kind), _found(key, value))]
    return converted, []


def _found(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if _SECRET.search(key):
        return f"a {type(value).__name__} that is not shown"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _describe(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner):
            words = _describe(inner)
        case inspect.UnionType(types=types):
            words = " or ".join(_describe(one) for one in types if not isinstance(one, inspect.NoneType))
        case inspect.LiteralType(values=values):
            words = " or ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType():
            words = "a whole number" + _limits(info)
        case inspect.FloatType():
            words = "a number" + _limits(info)
        case inspect.StrType(pattern="^/"):
            words = "an absolute path"
        case inspect.StrType(pattern=str(pattern)):
            words = f"text that matches {pattern}"
        case inspect.StrType(min_length=length):
            words = "text that is not empty" if length else "text"
        case inspect.VarTupleType(min_length=least):
            words = f"a list of texts, at least {least}" if least else "a list of texts"
        case _:
            raise TypeError(f"no words for {info}")
    return words


def _limits(info: inspect.IntType | inspect.FloatType) -> str:
    bounds = []
    if info.gt is not None:
        bounds.append(f"above {info.gt:,}")
    if info.ge is not None:
        bounds.append(f"from {info.ge:,}")
    if info.lt is not None:
        bounds.append(f"below {info.lt:,}")
    if info.le is not None:
        bounds.append(f"to {info.le:,}" if info.ge is not None else f"up to {info.le:,}")
    step = f", in steps of {info.multiple_of:,}" if info.multiple_of is not None else ""
    return (" " + " ".join(bounds) if bounds else "") + step
