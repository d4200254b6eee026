"""Forms: checked by JSON Schema, told by field in the citizen's words, never with what was typed (T8, T17)."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import texts
from runtime.services.forms import BadForm, check, check_schema
from sim.platform.matters import catalogue

TEXT = {"type": "string", "title": "姓名", "minLength": 2, "maxLength": 4, "pattern": "^[一-龥]+$"}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": TEXT,
        "age": {"type": "integer", "title": "年龄", "minimum": 0, "maximum": 150},
        "born": {"type": "string", "title": "出生日期", "format": "date"},
        "kind": {"title": "类别", "enum": ["甲", "乙"]},
        "tags": {
            "type": "array",
            "title": "标签",
            "minItems": 1,
            "maxItems": 2,
            "uniqueItems": True,
            "items": {"type": "string"},
        },
        "other": {"type": "string", "title": "其他"},
    },
    "required": ["name"],
    "dependentRequired": {"kind": ["other"]},
    "additionalProperties": False,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def test_a_right_form_has_no_problems():
    right = {"name": "张三", "age": 30, "born": "1990-01-01", "kind": "甲", "other": "无", "tags": ["一"]}
    assert check(SCHEMA, right) == []


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"name": None}, "name", "form.required"),
        ({"name": 5}, "name", "form.wrong_type"),
        ({"name": "张"}, "name", "form.too_short"),
        ({"name": "张三李四王五"}, "name", "form.too_long"),
        ({"name": "ab"}, "name", "form.bad_form"),
        ({"age": -1}, "age", "form.out_of_range"),
        ({"age": 151}, "age", "form.out_of_range"),
        ({"age": True}, "age", "form.wrong_type"),
        ({"born": "1990-02-31"}, "born", "form.bad_form"),
        ({"kind": "丙", "other": "无"}, "kind", "form.no_choice"),
        ({"kind": "甲"}, "other", "form.required"),
        ({"tags": []}, "tags", "form.too_few"),
        ({"tags": ["一", "二", "三"]}, "tags", "form.too_many"),
        ({"tags": ["一", "一"]}, "tags", "form.twice"),
        ({"tags": [1]}, "tags", "form.wrong_type"),
        ({"surplus": 1}, "surplus", "form.unknown_field"),
    ],
)
def test_each_problem_has_its_field_and_its_code(change, field, code):
    values = {name: value for name, value in ({"name": "张三"} | change).items() if value is not None}
    (problem,) = check(SCHEMA, values)
    assert (problem.field, problem.code) == (field, code)
    title = SCHEMA["properties"].get(field, {}).get("title")
    assert problem.text == (f"{title}：" if title else "") + texts.text(code).zh
    assert code in texts.codes()


def test_problems_come_in_the_order_of_the_form_and_a_field_has_one():
    problems = check(SCHEMA, {"age": "x", "born": 1, "kind": "丙"})
    assert [problem.field for problem in problems] == ["name", "age", "born", "kind", "other"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"title": "甲", "type": "text"}}},
        {"type": "object", "properties": {"a": {"title": "甲", "pattern": "("}}},
        {"type": "object", "properties": {"a": {"title": "甲", "$ref": "https://elsewhere.example/schema"}}},
        {"type": "object", "properties": {"a": {"title": "甲", "$ref": "#/$defs/nothing"}}},
        {"type": "object", "properties": {"a": {"title": "甲", "$ref": "#/properties/a"}}},
    ],
)
def test_what_is_no_schema_of_a_form(schema):
    """T17: and nothing is ever fetched from elsewhere (T20: no other addresses)."""
    with pytest.raises(BadForm):
        check_schema(schema)


@pytest.mark.parametrize("version", [1, 2])
def test_every_matter_of_the_reference_catalogue_has_a_form(version):
    matters = catalogue(version, 0).matters
    assert len(matters) >= 12
    for matter in matters:
        check_schema(matter.form)
        assert check(matter.form, {})


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), JSON, max_size=6))
def test_any_values_are_answered_and_never_quoted(values):
    """T20: a problem is made of the schema's words alone."""
    for problem in check(SCHEMA, values):
        assert problem.field in {*SCHEMA["properties"], "x"}
        title = SCHEMA["properties"].get(problem.field, {}).get("title", "")
        assert problem.text.removeprefix(f"{title}：") == texts.text(problem.code).zh


@pytest.mark.parametrize("kind", [list, dict])
def test_a_value_of_any_depth_is_a_problem_of_its_field(kind):
    """T8: bad input is refused, whatever it is."""
    deep: object = "x"
    for _ in range(900):
        deep = [deep] if kind is list else {"a": deep}
    schema = {
        "type": "object",
        "required": ["many"],
        "properties": {"many": {"title": "多项", "type": "array", "uniqueItems": True}},
    }
    assert [(one.field, one.code) for one in check(schema, {"many": [deep, deep]})] == [("many", "form.bad_value")]
    assert check(schema, {"many": [[1], [2]]}) == []


def test_the_library_is_not_loaded_before_a_form_is_checked():
    """The daemon's memory: its modules import nothing of it."""
    program = "import sys, runtime.daemon; print('jsonschema' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == "False"
