"""Every code a citizen can meet has words, in both languages (one catalogue)."""

import ast
import re
from pathlib import Path

import pytest

from devices.ups.status import UpsFault
from runtime import texts
from runtime.drivers import KINDS
from runtime.messages import CATALOGUE
from sim.platform import logic, services
from vision.attack.challenge import GUIDANCE

ROOT = Path(texts.__file__).parents[1]
SOURCES = [
    *(
        path
        for package in ("devices", "vision", "transport", "runtime/services", "runtime/journal", "runtime/messages")
        for path in (ROOT / package).rglob("*.py")
    ),
    ROOT / "runtime/cameras.py",
    Path(logic.__file__),
    *Path(services.__file__).parent.glob("*.py"),
]
PREFIXES = "|".join(
    (
        *("face", "photo", "camera", "vision", "pdf", "platform", "line", "call", "message", "certificate", "citizen"),
        *("journal", "sharing", "hotline", "operation", "identity", "document", *KINDS),
        *("catalogue", "matter", "fee", "form", "application", "receipt", "progress", "device", "payment"),
    )
)
TOLD_BY_ALL = {"wrong_device", "swapped"}  # runtime/trust.py
COMPOSED = {
    "devices/cardreader/emv.py",
    "devices/fingerprint/errors.py",
    "devices/pinpad/errors.py",
    "devices/ups/driver.py",
    "runtime/services/progress.py",
    "vision/attack/challenge.py",
}
"""Where a code is put together: by `_error`, from a table `_REFUSALS`, of a UpsFault, a movement or a ReceiptState."""
SCHEMAS = {entry.schema for entry in CATALOGUE.values()}
"""Look like codes and are none."""
UNHEARD = {
    "call.settle",  # the schema of a message, not a code
    "call.settled",  # likewise
    "call.void",  # answers a call that nobody waits for any more
    "line.bad_certificate",  # ends a life of the line; its calls hear line.down
    "journal.newer",  # forbids the start of the daemon
    "journal.no_intent",  # a fault of the program, told as internal
    "journal.no_stream",  # likewise
    "journal.personal",  # likewise
    "line.bad_credentials",  # ends a life of the line; its calls hear line.down
    "message.before_grant",  # dropped by the line
    "message.unknown_topic",  # likewise
    "receipt.malformed",  # likewise
    "receipt.unknown_stream",  # likewise
    "ups.load",  # a variable of NUT, not a code
    "ups.mfr",  # likewise
    "ups.model",  # likewise
    "ups.serial",  # likewise
    "ups.status",  # likewise
    "ups.temperature",  # likewise
}


def codes_in(path: Path) -> set[str]:
    pattern = re.compile(rf"(?:{PREFIXES})\.[a-z_]+")
    literals = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    return {one for one in literals if isinstance(one, str) and pattern.fullmatch(one)} - SCHEMAS


def is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(re.fullmatch("[a-z_]+", node.value))


def bare_codes_in(path: Path) -> set[str]:
    """The codes that a driver raises without its kind: `error("no_answer", ...)`, and those of its `_REFUSALS`."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.args]
    found = [call.args[0] for call in calls if re.search(r"\b_?error$", ast.unparse(call.func))]
    tables: list[ast.AST] = [call for call in calls if ast.unparse(call.func) == "_REFUSALS.get"]
    tables += [node for node in nodes if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_REFUSALS"]
    found += [one.elts[0] for table in tables for one in ast.walk(table) if isinstance(one, ast.Tuple)]
    return {node.value for node in found if is_word(node)}


def raised_by(kind: str) -> set[str]:
    """Every code of a kind's driver, of what it is built on, and of who proves its identity."""
    paths = list((ROOT / "devices" / kind).rglob("*.py"))
    source = "".join(path.read_text() for path in paths)
    if sensor := "from devices.sensor import" in source:
        paths.append(ROOT / "devices/sensor.py")
    if sensor or "from devices.driver import" in source:
        paths.append(ROOT / "devices/driver.py")
    bare = {code for path in paths for code in bare_codes_in(path)} | TOLD_BY_ALL
    whole = {code for path in paths for code in codes_in(path) if code.startswith(f"{kind}.")} - UNHEARD
    return (
        whole
        | {f"{kind}.{code}" for code in bare}
        | ({f"ups.{fault}" for fault in UpsFault} if kind == "ups" else set())
    )


def composes(path: Path) -> bool:
    """Whether a code of the house is put together in a file, from its kind and something else."""
    texts = [node.values[0] for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)]
    return any(isinstance(text, ast.Constant) and re.fullmatch(rf"({PREFIXES})\.", text.value) for text in texts)


def test_codes_are_put_together_where_this_test_looks():
    found = {str(path.relative_to(ROOT)) for path in SOURCES if composes(path)}
    assert found == COMPOSED


@pytest.mark.parametrize("kind", KINDS)
def test_every_code_of_a_device_has_words(kind):
    found = raised_by(kind)
    assert found >= {f"{kind}.offline", f"{kind}.swapped", f"{kind}.no_answer"}
    assert sorted(found - texts.codes()) == []


def test_every_code_that_can_reach_a_citizen_has_words():
    found = {code for path in SOURCES for code in codes_in(path)} | set(GUIDANCE.values())
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
