"""Collects each benchmark's figures and prints them as one table at the end."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in the product


@dataclass(frozen=True)
class Row:
    what: str
    ours: str
    beside: str
    verdict: str


@dataclass
class Figures:
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, ours: str, *, beside: str, verdict: str = "") -> None:
        """Note a figure, what it stands beside (peer or limit, same run), and how the two compare."""
        self.rows.append(Row(what, ours, beside, verdict))


_FIGURES = Figures()


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _FIGURES


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the given percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def within(measured: float, limit: float) -> str:
    return "within" if measured <= limit else "OVER"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _FIGURES.rows:
        return
    terminalreporter.section(f"figures ({platform.machine()}, Python {platform.python_version()})")
    header = Row("what", "ours", "beside", "")
    widths = [max(len(getattr(row, name)) for row in [header, *_FIGURES.rows]) for name in ("what", "ours", "beside")]
    for row in [header, *_FIGURES.rows]:
        cells = [text.ljust(width) for text, width in zip((row.what, row.ours, row.beside), widths, strict=True)]
        terminalreporter.write_line(("  ".join(cells) + "  " + row.verdict).rstrip())
