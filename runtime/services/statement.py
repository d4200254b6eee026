"""The statement of what was used of shared information in a month, typed and in words for a person (S6)."""

import msgspec

from runtime.messages.sharing import Mode
from runtime.services.metering import LedgerLine
from runtime.services.payment_book import china
from runtime.services.reconciliation import Reconciliation
from runtime.services.resources import BY_NAME


class StatementShown(msgspec.Struct, frozen=True):
    """What this terminal counted of a month, and how it compared with the platform's count; `text` for a person."""

    month: str
    lines: list[LedgerLine]
    reconciled: Reconciliation | None
    text: str


_MODES: dict[Mode, str] = {"query": "查询", "dataset": "数据集", "call": "接口调用"}


def written(terminal: str, month: str, lines: list[LedgerLine], reconciled: Reconciliation | None) -> str:
    """Write a statement for a person, in Chinese."""
    year, number = month.split("-")
    parts = [f"数据共享使用清单　{year}年{number}月　终端 {terminal}", ""]
    for line in lines:
        title = BY_NAME[line.resource].title if line.resource in BY_NAME else line.resource
        unit = "KB" if line.mode == "dataset" else "次"
        refused = f"，其中 {line.refused} 次未能使用" if line.refused else ""
        parts.append(f"{title}　{_MODES[line.mode]}　使用 {line.uses} 次，计量 {line.units} {unit}{refused}")
    if not lines:
        parts.append("本月无使用记录。")
    parts += ["", _compared(lines, reconciled)]
    return "\n".join(parts) + "\n"


def _compared(lines: list[LedgerLine], reconciled: Reconciliation | None) -> str:
    """Say what came of the comparison, of which uses it is true, and how many were counted since."""
    if reconciled is None:
        return "尚未与平台对账。"
    of = f"截至{china(reconciled.at_unix):%Y-%m-%d %H:%M}的 {reconciled.uses} 次使用"
    later = sum(line.uses for line in lines) - reconciled.uses
    since = [f"此后的 {later} 次使用尚未与平台对账。"] if later else []
    if reconciled.outcome == "equal":
        return "\n".join([f"{of}与平台计量一致。", *since])
    told = [
        f"{BY_NAME[one.resource].title if one.resource in BY_NAME else one.resource}　{_MODES[one.mode]}　"
        f"本机 {one.our_uses} 次（{one.our_units}），平台 {one.their_uses} 次（{one.their_units}）"
        for one in reconciled.differences
    ]
    waiting = f"另有 {reconciled.unsettled} 次使用待核实。" if reconciled.unsettled else ""
    return "\n".join([f"{of}与平台计量不一致：{waiting}", *told, *since])
