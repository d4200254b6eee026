"""The OpenRPC document of the table of methods (H12, I9)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.api import rpc
from runtime.api.examples import example_params, example_result
from runtime.api.roles import Role
from runtime.api.shapes import Described
from runtime.api.table import Method, Notice

_REFERENCE = "#/components/schemas/{name}"

ALWAYS = ("request.bad_params", "request.too_many", "caller.not_allowed", "internal")
"""Codes that any request may have for an answer."""
OF_STAFF = ("caller.not_granted", "caller.no_window")
"""Codes that any call that is not the UI's alone may have for an answer."""
OF_SESSION = (
    "session.unknown",
    "session.ended",
    "session.citizen_changed",
    "session.not_verified",
    "assertion.expired",
)
"""Codes that any call that names a session may have for an answer."""
NUMBERS = {
    "request.not_json": rpc.PARSE_ERROR,
    "request.invalid": rpc.INVALID_REQUEST,
    "request.batch": rpc.INVALID_REQUEST,
    "request.too_large": rpc.INVALID_REQUEST,
    "request.unknown_method": rpc.METHOD_NOT_FOUND,
    "request.bad_params": rpc.INVALID_PARAMS,
    "internal": rpc.INTERNAL_ERROR,
}
"""The numbers of JSON-RPC for the codes that have one of their own."""


def errors(method: Method) -> tuple[str, ...]:
    """Return the codes of the JSON-RPC errors a call of a method may have."""
    names_session = any(field.name == "session" for field in msgspec.structs.fields(method.params))
    of_staff = (*(OF_STAFF if method.role is not Role.UI else ()), *(["caller.second_person"] * method.is_sensitive))
    return tuple(dict.fromkeys((*ALWAYS, *(OF_SESSION if names_session else ()), *of_staff, *method.errors)))


def describe(methods: Sequence[Method], notices: Sequence[Notice], software: str) -> Described:
    """Return the OpenRPC document: parameters, results, errors, an example and the role of each method."""
    kinds = [kind for method in methods for kind in (method.params, method.result)]
    kinds += [notice.params for notice in notices]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    return Described(
        openrpc="1.3.2",
        info={"title": "govterm local API", "version": str(rpc.API_VERSION), "x-software": software},
        methods=[
            _method(method, schemas[2 * index + 1], components[method.params.__name__]["properties"])
            for index, method in enumerate(methods)
        ],
        notifications=[
            {"name": notice.name, "description": notice.description, "schema": schema}
            for notice, schema in zip(notices, schemas[2 * len(methods) :], strict=True)
        ],
        components={"schemas": components},
    )


def _method(method: Method, result: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": method.name,
        "description": method.description,
        "x-role": method.role,
        "paramStructure": "by-name",
        "params": [
            {"name": field.encode_name, "required": field.required, "schema": properties[field.encode_name]}
            for field in msgspec.structs.fields(method.params)
        ],
        "result": {"name": method.result.__name__, "schema": result},
        "errors": [
            {"code": NUMBERS.get(code, rpc.APPLICATION_ERROR), "message": code, "data": {"code": code}}
            for code in errors(method)
        ],
        "examples": [
            {
                "name": method.name,
                "params": [{"name": name, "value": value} for name, value in example_params(method.params).items()],
                "result": {"name": method.result.__name__, "value": example_result(method.name, method.result)},
            }
        ],
    }
