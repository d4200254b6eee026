"""The API's documents come from its table and are in step with it (H12, I9)."""

import inspect
from pathlib import Path

import msgspec
import pytest

from runtime.api import methods, reference
from runtime.api.methods import METHODS, NOTICES, describe
from runtime.api.roles import Role
from tests.runtime.house import Caller, House, tell

PAGE = Path(reference.__file__).parents[2] / "docs" / "api.md"


def test_the_page_is_the_generated_one():
    assert PAGE.read_text() == reference.reference(), "run: python -m runtime.api.reference > docs/api.md"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_each_row_of_the_table_is_whole(method):
    assert method.description.endswith(".")
    assert inspect.iscoroutinefunction(method.handler)
    assert inspect.signature(method.handler, eval_str=True).return_annotation is method.result
    assert list(inspect.signature(method.handler, eval_str=True).parameters.values())[2].annotation is method.params
    assert method.params.__struct_config__.forbid_unknown_fields
    page = PAGE.read_text()
    assert f"### `{method.name}`" in page
    assert method.description in page


def test_sessions_and_previews_are_for_the_ui_alone():
    """T21."""
    for method in METHODS:
        if method.name.startswith(("session.", "preview.")):
            assert method.role is Role.UI
    assert len({method.name for method in METHODS}) == len(METHODS) == len(methods.BY_NAME)
    assert all(notice.name in PAGE.read_text() for notice in NOTICES)


def test_the_openrpc_document_resolves_all_its_references(tmp_path, monkeypatch):
    document = msgspec.to_builtins(describe("0.0"))

    async def story(house: House, ui: Caller) -> dict:
        return await ui.call("rpc.discover")

    assert tell(tmp_path, story, monkeypatch) == document
    schemas = document["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert len(found) > 5
    assert all(one.removeprefix("#/components/schemas/") in schemas for one in found)
    assert {method["name"] for method in document["methods"]} == {method.name for method in METHODS}
