"""The API's documents come from its table and are in step with it (H12, I9)."""

import inspect
from pathlib import Path

import jsonschema
import msgspec
import pytest

from runtime.api import client_source, methods, openrpc, reference, rpc
from runtime.api.examples import UNSAID
from runtime.api.methods import METHODS, NOTICES, describe
from runtime.client import methods as client_methods
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


def test_names_are_unique_and_every_notification_is_on_the_page():
    assert len({method.name for method in METHODS}) == len(METHODS) == len(methods.BY_NAME)
    assert all(notice.name in PAGE.read_text() for notice in NOTICES)


def test_the_typed_client_is_the_generated_one():
    source = Path(client_methods.__file__).read_text()
    command = "python -m runtime.api.client_source > methods.py && mv methods.py runtime/client/"
    assert source == client_source.source(), f"run: {command}"


DOCUMENT = msgspec.json.decode(msgspec.json.encode(describe("0.0")))


@pytest.mark.parametrize("method", DOCUMENT["methods"], ids=lambda method: method["name"])
def test_each_method_has_an_example_that_fits_its_schemas_and_its_errors(method):
    """I9; a text without an example is said in runtime.api.examples.VALUES."""
    (example,) = method["examples"]
    values = {one["name"]: one["value"] for one in example["params"]}
    assert {param["name"] for param in method["params"] if param["required"]} <= set(values)
    for param in method["params"]:
        if param["name"] in values:
            check(values[param["name"]], param["schema"])
    check(example["result"]["value"], method["result"]["schema"])
    assert unsaid(example) == []
    codes = [error["data"]["code"] for error in method["errors"]]
    assert len(codes) == len(set(codes))
    assert set(openrpc.ALWAYS) <= set(codes)
    assert {error["code"] for error in method["errors"]} <= {rpc.APPLICATION_ERROR, *openrpc.NUMBERS.values()}


def check(value, schema):
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


def unsaid(node, path=""):
    """Where an example has a text that nobody gave."""
    if isinstance(node, dict):
        return [found for name, value in node.items() for found in unsaid(value, f"{path}.{name}")]
    if isinstance(node, list):
        return [found for value in node for found in unsaid(value, path)]
    return [path] if node == UNSAID else []


def test_the_openrpc_document_resolves_all_its_references(tmp_path, monkeypatch):
    async def story(house: House, ui: Caller) -> dict:
        return await ui.call("rpc.discover")

    assert tell(tmp_path, story, monkeypatch) == DOCUMENT
    schemas = DOCUMENT["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(DOCUMENT))
    assert len(found) > 5
    assert all(one.removeprefix("#/components/schemas/") in schemas for one in found)
    assert {method["name"] for method in DOCUMENT["methods"]} == {method.name for method in METHODS}
