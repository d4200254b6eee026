"""Writes `runtime/client/methods.py` from the table of methods: `python -m runtime.api.client_source > FILE` (H12)."""

import builtins
import sys
import textwrap
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from runtime.api.methods import METHODS
from runtime.api.table import Method

_BREAK = "\n        "
_HEAD = '''\
"""A method for each of the API's. Generated from its table: `python -m runtime.api.client_source`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runtime.client.typed import DEFAULT_SECONDS, Typed

if TYPE_CHECKING:
    from collections.abc import Mapping

{imports}


class TerminalMethods(Typed):
    """The methods that need no session."""

{terminal}


class SessionMethods(Typed):
    """The methods of a citizen's session."""

{session}
'''


def source() -> str:
    """Return the module's text. A method whose session may be left out stands in both classes."""
    kinds = {method.result for method in METHODS}
    kinds |= {kind for method in METHODS for field in _fields(method) for kind in _structs(field.type)}
    homes: dict[str, set[str]] = {}
    for kind in kinds:
        homes.setdefault(kind.__module__, set()).add(kind.__name__)
    sessions = {method.name: _session(method) for method in METHODS}
    return _HEAD.format(
        imports="\n".join(_import(module, sorted(names)) for module, names in sorted(homes.items())),
        terminal="\n\n".join(_method(method) for method in METHODS if sessions[method.name] != "required"),
        session="\n\n".join(_method(method) for method in METHODS if sessions[method.name] != "none"),
    )


def _session(method: Method) -> Literal["required", "optional", "none"]:
    for field in msgspec.structs.fields(method.params):
        if field.name == "session":
            return "required" if field.required else "optional"
    return "none"


def _fields(method: Method) -> list[msgspec.structs.FieldInfo]:
    return [field for field in msgspec.structs.fields(method.params) if field.name != "session"]


def _import(module: str, names: list[str]) -> str:
    line = f"    from {module} import {', '.join(names)}"
    if len(line) <= 120:
        return line
    return f"    from {module} import (\n" + "".join(f"        {name},\n" for name in names) + "    )"


def _method(method: Method) -> str:
    prefix = "session." if _session(method) == "required" else "terminal."
    name = method.name.removeprefix(prefix).replace(".", "_")
    fields = _fields(method)
    parameters = [_parameter(field) for field in sorted(fields, key=lambda field: not field.required)]
    patience = "seconds"
    if any(field.name == "seconds" for field in fields):
        patience = "seconds + DEFAULT_SECONDS"
    else:
        parameters.append("seconds: float = DEFAULT_SECONDS,")
    told = textwrap.fill(f'"""{_first_sentence(method.description)}"""', 112).replace("\n", "\n        ")
    asked = [f'"{method.name}",', f"{patience},", *(f"{field.encode_name}={field.name}," for field in fields)]
    return "\n".join(
        (
            f"    async def {name}(",
            *(f"        {one}" for one in ("self,", "*,", *parameters)),
            f"    ) -> {method.result.__name__}:",
            f"        {told}",
            f"        result: {method.result.__name__} = await self._ask(",
            *(f"            {one}" for one in asked),
            "        )",
            "        return result",
        )
    )


def _parameter(field: msgspec.structs.FieldInfo) -> str:
    default = "" if field.required else f" = {_written(field)}"
    kind = _kind(field.type)
    if default == " = {}":
        kind = kind.replace("dict", "Mapping", 1)
    if len(f"        {field.name}: {kind},") > 120:
        kind = f"{kind[:-1].replace('[', f'[{_BREAK}    ', 1)}{_BREAK}]"
    return f"{field.name}: {kind}{default}," + ("  # noqa: A002" if hasattr(builtins, field.name) else "")


def _first_sentence(text: str) -> str:
    return text.replace("`", "").partition(". ")[0].removesuffix(".") + "."


def _written(field: msgspec.structs.FieldInfo) -> str:
    """Write a default as Python does."""
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return msgspec.json.encode(default).decode() if isinstance(default, str) else repr(default)


def _kind(kind: Any) -> str:
    """Write a type as Python does."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(msgspec.json.encode(one).decode() for one in arguments)}]"
    if origin in (Union, UnionType):
        plain = [one for one in arguments if get_origin(one) is not Literal]
        said = tuple(value for one in arguments if get_origin(one) is Literal for value in get_args(one))
        return " | ".join([*([_kind(Literal[said])] if said else []), *map(_kind, plain)])
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if one is ... else _kind(one) for one in arguments)}]"
    return "None" if kind is NoneType else "Any" if kind is Any else str(kind.__name__)


def _structs(kind: Any) -> set[type]:
    """Return the classes of the house that a type names."""
    if get_origin(kind) is Literal:
        return set()
    if isinstance(kind, type) and kind.__module__.partition(".")[0] not in ("builtins", "typing", "types"):
        return {kind}
    return {one for argument in get_args(kind) for one in _structs(argument)}


if __name__ == "__main__":
    sys.stdout.write(source())
