"""Every mistake of a document is told at once, with its key, what was expected and what was found."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from runtime.check import Mistake, convert, describe, parse_toml


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=1, le=65_535, description="Port.")]
    wait_seconds: Annotated[float, Meta(gt=0, le=30, description="Wait.")] = 5.0


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inner: Inner
    name: Annotated[str, Meta(min_length=1, description="Name.")]
    kind: Annotated[Literal["a", "b"], Meta(description="Kind.")] = "a"
    users: Annotated[tuple[str, ...], Meta(min_length=1, description="Users.")] = ("root",)
    secret: Annotated[int, Meta(description="A number nobody may see.")] = 0
    extra: Inner = Inner(port=1)


GOOD = {"inner": {"port": 8883}, "name": "x"}


def mistakes(document):
    value, found = convert(document, Outer)
    assert value is None
    return {one.key: (one.expected, one.found) for one in found}


def test_a_good_document_gives_the_struct_with_its_defaults():
    value, found = convert(GOOD, Outer)
    assert found == []
    assert value == Outer(inner=Inner(port=8883, wait_seconds=5.0), name="x")


def test_every_mistake_is_told_in_one_pass():
    found = mistakes(
        {
            "inner": {"port": 0, "wait_seconds": "long", "prot": 1},
            "kind": "c",
            "users": [],
            "extra": 3,
            "nmae": "x",
        }
    )
    assert found == {
        "inner.port": ("a whole number from 1 to 65,535", "0"),
        "inner.wait_seconds": ("a number above 0 up to 30", "'long'"),
        "inner.prot": ("no such key", "an unknown key"),
        "kind": ('"a" or "b"', "'c'"),
        "users": ("a list of texts, at least 1", "[]"),
        "extra": ("a section [extra]", "3"),
        "nmae": ("`name` (did you mean this?)", "an unknown key"),
        "name": ("text that is not empty", "nothing"),
    }


def test_an_unknown_key_is_told_on_one_line_whatever_its_case():
    assert mistakes({**GOOD, "NAME": "x", "a\nb\x1b[31m": 1}) == {
        "NAME": ("no such key", "an unknown key"),
        "'a\\nb\\x1b[31m'": ("no such key", "an unknown key"),
    }
    assert mistakes({"Inner": {}, "name": "x"})["Inner"][0] == "`inner` (did you mean this?)"


def test_a_missing_section_names_its_needed_keys():
    assert mistakes({"name": "x"}) == {"inner": ("a section [inner] with port", "nothing")}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(value):
    assert "inner.wait_seconds" in mistakes({"inner": {"port": 1, "wait_seconds": value}, "name": "x"})


def test_true_is_no_number():
    assert mistakes({"inner": {"port": True}, "name": "x"})["inner.port"][1] == "true"


def test_a_long_value_is_cut_and_a_secret_one_never_shown():
    found = mistakes({**GOOD, "kind": "x" * 5_000, "secret": "hunter2"})
    assert len(found["kind"][1]) == 60
    assert found["secret"] == ("a whole number", "a str that is not shown")


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (b"a = 1\nb = = 2\n", "line 2, column 5", "invalid value"),
        (b"a = 1\nb = [1,\n", "line 2", "invalid value"),
        (b"a = 1\na = 2\n", "line 2, column 6", "cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "line 2", "the byte 0xff"),
        (b"\xef\xbb\xbfa = 1\nb = = 2\n", "line 2, column 5", "invalid value"),
        (b"x", "line 1", "expected '=' after a key in a key/value pair"),
    ],
)
def test_a_syntax_error_is_told_with_its_line(text, where, what):
    document, found = parse_toml(text)
    assert document == {}
    assert [(one.key, one.found) for one in found] == [(where, what)]


def test_a_mistake_reads_as_one_line():
    assert str(Mistake("a.b", "text", "3")) == "a.b: expected text; found 3"


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_any_bytes_are_a_document_or_mistakes(data):
    document, found = parse_toml(data)
    assert not (document and found)
    assert all("\n" not in one.key for one in found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEYS = st.sampled_from(["inner", "name", "kind", "users", "secret", "extra", "other"])


@given(st.dictionaries(KEYS, JSON | st.just({"port": 1}), max_size=7))
@settings(max_examples=200)
def test_any_document_is_a_struct_or_at_least_one_mistake(document):
    value, found = convert(document, Outer)
    assert (value is None) == bool(found)


def test_a_type_without_words_is_our_own_fault():
    with pytest.raises(TypeError, match="no words"):
        describe(bytes)
