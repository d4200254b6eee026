"""Forms of matters: JSON Schema 2020-12, checked field by field, told in the citizen's words (T8, T17).

The library is imported when a form is first checked, not before: it takes memory that an idle terminal does not need.
What a citizen typed is never in a problem.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from runtime import texts

_CODES = {
    "required": "form.required",
    "dependentRequired": "form.required",
    "type": "form.wrong_type",
    "maxLength": "form.too_long",
    "minLength": "form.too_short",
    "pattern": "form.bad_form",
    "format": "form.bad_form",
    "enum": "form.no_choice",
    "const": "form.no_choice",
    "minimum": "form.out_of_range",
    "maximum": "form.out_of_range",
    "exclusiveMinimum": "form.out_of_range",
    "exclusiveMaximum": "form.out_of_range",
    "multipleOf": "form.out_of_range",
    "minItems": "form.too_few",
    "maxItems": "form.too_many",
    "uniqueItems": "form.twice",
    "additionalProperties": "form.unknown_field",
    "unevaluatedProperties": "form.unknown_field",
}


DEEPEST = 8
"""Levels of lists and objects in a field; a citizen's form has one or two."""


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with a field of a form; `text` is for the citizen, `field` is empty when it is the form's."""

    field: str
    code: str
    text: str


class BadForm(Exception):
    """A schema that no form can be checked against."""


def check(schema: dict[str, Any], values: dict[str, Any]) -> list[FieldProblem]:
    """Return what is wrong with the values of a form, in the order of its fields, each field once; empty when nothing.

    `schema` is one that `check_schema` let pass.
    """
    properties = schema["properties"]
    found = {
        field: FieldProblem(field, "form.bad_value", _text(properties.get(field), "form.bad_value"))
        for field, value in values.items()
        if _is_deeper(value, DEEPEST)
    }
    values = {field: value for field, value in values.items() if field not in found}
    for error in _validator(schema).iter_errors(values):
        for field in _fields(error, properties):
            code = _CODES.get(error.validator, "form.bad_value")
            found.setdefault(field, FieldProblem(field, code, _text(properties.get(field), code)))
    order = {field: place for place, field in enumerate(properties)}
    return sorted(found.values(), key=lambda problem: order.get(problem.field, len(order)))


def check_schema(schema: dict[str, Any]) -> None:
    """Raise BadForm unless this is a JSON Schema of an object that refers to nothing outside itself."""
    import re

    from jsonschema.exceptions import SchemaError, ValidationError
    from jsonschema.validators import Draft202012Validator
    from referencing.exceptions import Unresolvable

    fields = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(fields, dict):
        raise BadForm("a form is an object with properties")
    if any(not isinstance(field, dict) or not isinstance(field.get("title"), str) for field in fields.values()):
        raise BadForm("a field has no title")
    try:
        Draft202012Validator.check_schema(schema)
        for key, value in _walk(schema):
            if key in ("$ref", "$dynamicRef"):
                _resolve(schema, value)
            elif key == "pattern":
                re.compile(value)
        list(_validator(schema).iter_errors(dict.fromkeys(fields, "")))
    except (SchemaError, ValidationError, Unresolvable, RecursionError, re.error, TypeError) as error:
        raise BadForm(type(error).__name__) from None


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a value has more levels of lists and objects; one without end is not walked to it."""
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(part, levels - 1) for part in parts)


def _validator(schema: dict[str, Any]) -> Any:
    from jsonschema.validators import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(
        schema, registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER
    )  # an empty registry: nothing is ever fetched


def _resolve(schema: dict[str, Any], reference: Any) -> None:
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    resource: Any = DRAFT202012.create_resource(schema)
    Registry().resolver_with_root(resource).lookup(reference)


def _walk(part: Any) -> Iterator[tuple[str, Any]]:
    """Yield every keyword with a text in a schema; a field that is named like one has no text."""
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str):
                yield key, value
            else:
                yield from _walk(value)
    elif isinstance(part, list):
        for value in part:
            yield from _walk(value)


def _fields(error: Any, properties: dict[str, Any]) -> list[str]:
    """Return the fields that an error is about; one inside a field is that field's."""
    if error.absolute_path:
        return [str(error.absolute_path[0])]
    values = error.instance if isinstance(error.instance, dict) else {}
    match error.validator:
        case "required":
            return [field for field in error.validator_value if field not in values]
        case "dependentRequired":
            wanted = error.validator_value
            return [field for asked in wanted if asked in values for field in wanted[asked] if field not in values]
        case "additionalProperties" | "unevaluatedProperties":
            return [field for field in values if field not in properties] or [""]
    return [""]


def _text(field: Any, code: str) -> str:
    said = texts.text(code).zh
    title = field.get("title") if isinstance(field, dict) else None
    return f"{title}：{said}" if title else said
