"""Every code a citizen can meet has words, in both languages (one catalogue)."""

import ast
import re
from pathlib import Path

import pytest

from runtime import texts
from sim.platform import logic

ROOT = Path(texts.__file__).parents[1]
SOURCES = [
    *(
        path
        for package in ("devices", "vision", "transport", "runtime/services")
        for path in (ROOT / package).rglob("*.py")
    ),
    ROOT / "runtime/messages.py",
    ROOT / "runtime/journal.py",
    Path(logic.__file__),
]
KINDS = (
    "idcard|printer|face|photo|camera|vision|pdf|platform|line|call|message|certificate|citizen|journal|operation"
    "|identity"
)
UNHEARD = {
    "certificate.issue",  # the schema of a message, not a code
    "certificate.request",  # likewise
    "journal.newer",  # forbids the start of the daemon
    "journal.no_intent",  # a fault of the program, told as internal
    "journal.personal",  # likewise
    "line.bad_credentials",  # ends a life of the line; its calls hear line.down
    "message.before_grant",  # dropped by the line
    "message.unknown_topic",  # likewise
}


def codes_in(path: Path) -> set[str]:
    pattern = re.compile(rf"(?:{KINDS})\.[a-z_]+")
    literals = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return {literal for literal in literals if isinstance(literal, str) and pattern.fullmatch(literal)}


def test_every_code_that_can_reach_a_citizen_has_words():
    found = {code for path in SOURCES for code in codes_in(path)}
    assert len(found) > 60
    assert found >= UNHEARD
    assert sorted(found - UNHEARD - texts.codes()) == []


@pytest.mark.parametrize("code", sorted(texts.codes()))
def test_words_are_chinese_and_english(code):
    text = texts.text(code)
    assert re.search(r"[\u4e00-\u9fff]", text.zh)
    assert not re.search(r"[\u4e00-\u9fff]", text.en)
    assert len(text.zh) <= 40


def test_a_code_from_elsewhere_is_never_shown_without_words():
    assert texts.text("citizen.some_new_code").zh == "平台未受理该申请，请咨询工作人员。"
