"""Parameters for any method, from its type alone: right ones, nearly right ones, and any JSON (L38)."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from runtime.api.methods import METHODS
from runtime.api.table import Method

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TEXT = st.text(max_size=8)


def integers(info: inspect.IntType) -> st.SearchStrategy[Any]:
    least = info.ge if info.ge is not None else -1_000_000
    return st.integers(least, info.le if info.le is not None else 1_000_000)


def floats(info: inspect.FloatType) -> st.SearchStrategy[Any]:
    least = info.ge if info.ge is not None else 0.001 if info.gt is not None else -1e6
    return st.floats(least, min(info.le if info.le is not None else 1e6, 20.0))


def texts(info: inspect.StrType) -> st.SearchStrategy[Any]:
    if info.pattern is not None:
        return st.from_regex(info.pattern, fullmatch=True)
    return st.text(max_size=info.max_length or 40, min_size=info.min_length or 0)


def data(info: inspect.BytesType) -> st.SearchStrategy[Any]:
    most = min(info.max_length or 64, 64)
    return st.binary(min_size=info.min_length or 0, max_size=most).map(msgspec.to_builtins)


def of_struct(info: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    """Objects that a Struct takes, its optional fields there or not."""
    required = {field.encode_name: of_type(field.type) for field in info.fields if field.required}
    return st.fixed_dictionaries(
        required, optional={field.encode_name: of_type(field.type) for field in info.fields if not field.required}
    )


BY_TYPE: dict[type[inspect.Type], Callable[[Any], st.SearchStrategy[Any]]] = {
    inspect.Metadata: lambda info: of_type(info.type),
    inspect.UnionType: lambda info: st.one_of(*map(of_type, info.types)),
    inspect.LiteralType: lambda info: st.sampled_from(info.values),
    inspect.EnumType: lambda info: st.sampled_from([one.value for one in info.cls]),
    inspect.NoneType: lambda _: st.none(),
    inspect.BoolType: lambda _: st.booleans(),
    inspect.IntType: integers,
    inspect.FloatType: floats,
    inspect.StrType: texts,
    inspect.BytesType: data,
    inspect.ListType: lambda info: st.lists(of_type(info.item_type), max_size=3),
    inspect.VarTupleType: lambda info: st.lists(of_type(info.item_type), max_size=3),
    inspect.DictType: lambda _: st.dictionaries(TEXT, JSON, max_size=3),
    inspect.StructType: of_struct,
    inspect.AnyType: lambda _: JSON,
}


def of_type(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Values that a type takes, as they stand in JSON."""
    return BY_TYPE[type(info)](info)


def right(method: Method) -> st.SearchStrategy[dict[str, Any]]:
    """Parameters that fit a method's schema."""
    info = inspect.type_info(method.params)
    assert isinstance(info, inspect.StructType)
    return of_struct(info)


@st.composite
def wrong(draw: st.DrawFn, method: Method) -> Any:
    """Parameters of a method with one thing changed, or any JSON at all."""
    params = draw(right(method))
    how = draw(st.sampled_from(["drop", "add", "change", "any"]))
    if how == "drop" and params:
        del params[draw(st.sampled_from(sorted(params)))]
    elif how == "change" and params:
        params[draw(st.sampled_from(sorted(params)))] = draw(JSON)
    elif how == "any":
        return draw(JSON)
    else:
        params[draw(st.text(max_size=8))] = draw(JSON)
    return params


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, Any]:
    """A method's name and parameters for it, most of them right."""
    method = draw(st.sampled_from(METHODS))
    return method.name, draw(st.one_of(right(method), right(method), wrong(method)))
