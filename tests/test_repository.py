"""The repository's own promises: pages that must stay true, and what must never be committed."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from runtime.units import STEPS

ROOT = Path(__file__).parent.parent
CLAUSES = [f"{letter}{n}" for letter, last in (("T", 25), ("I", 10), ("S", 7), ("H", 12)) for n in range(1, last + 1)]


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_every_locked_package_is_in_third_party() -> None:
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]} - {"govterm"}
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "THIRD_PARTY.md").read_text(), re.MULTILINE)
    listed = {name.strip() for row in rows for name in row.split(",")}
    assert not locked - listed


def traceability() -> dict[str, str]:
    rows = re.findall(r"^\| ([TISH]\d+) \| (.+) \|$", (ROOT / "docs/traceability.md").read_text(), re.MULTILINE)
    return dict(rows)


def test_traceability_has_every_clause_once_and_in_order() -> None:
    rows = re.findall(r"^\| ([TISH]\d+) \|", (ROOT / "docs/traceability.md").read_text(), re.MULTILINE)
    assert rows == CLAUSES


@pytest.mark.parametrize("clause", CLAUSES)
def test_traceability_names_code_and_tests_that_exist(clause: str) -> None:
    row = traceability()[clause]
    paths = re.findall(r"`([\w./-]+/[\w./-]*)`", row)
    assert paths or "later" in row
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing
    tests = [ROOT / path for path in paths if path.startswith("tests/")]
    assert tests or "later" in row
    assert all(re.search(rf"\b{clause}\b", test.read_text()) for test in tests), f"a test of {clause} does not cite it"


def test_links_in_documents_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in tracked_files()
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken


def test_nothing_names_a_build_machine() -> None:
    telltale = re.compile("/" + "work/|/" + "root/|/" + "home/|/" + "farm/")
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        if path.suffix in {".py", ".md", ".toml", ".sh", ".js", ".in", ".yaml", ".service", ".socket", ""}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if telltale.search(line)
    ]
    assert not named


def commands(text: str) -> list[str]:
    """Return the lines of the code blocks without their comments, which are in the reader's language."""
    fences = re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for code in fences for line in code.splitlines()]


def test_the_chinese_readme_is_in_step() -> None:
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    assert re.findall(r"^#+(?= )", english, re.MULTILINE) == re.findall(r"^#+(?= )", chinese, re.MULTILINE)
    assert commands(english) == commands(chinese)
    links = [set(re.findall(r"\]\(([^)]+)\)", text)) for text in (english, chinese)]
    assert links[0] - {"README.zh-CN.md"} == links[1] - {"README.md"}


def test_the_readme_installs_as_the_command_says() -> None:
    lines = commands((ROOT / "README.md").read_text())
    places = [lines.index(step) for step in STEPS]
    assert places == sorted(places)
