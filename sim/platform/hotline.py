"""The life of a hotline order: which step may follow which, who handles it, and when each is due (H1, H3, H4).

Everything here is a function of the order, the seed and the clock; `sim.platform.orders` keeps the orders.
"""

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

from runtime.messages.applications import ReceiptState
from runtime.messages.hotline import Category, OrderStage, Verdict

Source = Literal["terminal", "province", "call", "walk_in", "street"]
"""Where an order comes from; `province` is the provincial platform 民呼我为."""
Action = Literal[
    "transcribe",
    "review",
    "route",
    "assign",
    "hand_back",
    "handle",
    "warn",
    "supervise",
    "inspect",
    "verify",
    "answer",
    "reopen",
    "follow_up",
    "archive",
]

MOVES: dict[Action, tuple[OrderStage, OrderStage]] = {
    "transcribe": ("registered", "transcribed"),
    "review": ("transcribed", "reviewed"),
    "route": ("reviewed", "routed"),
    "assign": ("routed", "assigned"),
    "hand_back": ("assigned", "reviewed"),
    "handle": ("assigned", "handling"),
    "warn": ("handling", "handling"),
    "supervise": ("handling", "handling"),
    "inspect": ("handling", "handling"),
    "verify": ("handling", "verified"),
    "answer": ("verified", "answered"),
    "reopen": ("answered", "assigned"),
    "follow_up": ("answered", "followed_up"),
    "archive": ("followed_up", "archived"),
}
"""From which stage to which each action leads; every other move is illegal."""

TEXTS: dict[Action, str] = {
    "transcribe": "诉求内容已转写。",
    "review": "已通过初审。",
    "route": "已转派至{department}。",
    "assign": "{department}已签收。",
    "hand_back": "{department}提出不属其职责，重新研判。",
    "handle": "{department}正在办理。",
    "warn": "已到办理时限，向{department}发出预警。",
    "supervise": "办理超期，督查专员已挂牌督办。",
    "inspect": "督查专员已到现场核查。",
    "verify": "办理结果已核实。",
    "answer": "{department}已答复。",
    "reopen": "您不满意，已退回{department}重新办理。",
    "follow_up": "已回访。",
    "archive": "已归档。",
}

COORDINATION = "样本市政务服务热线工作专班"
"""Decides whose an order is that a department hands back."""
_BY_CATEGORY: dict[Category, str] = {
    "consultation": "样本市政务服务热线中心",
    "complaint": "{district}综合行政执法局",
    "suggestion": "样本市政务服务局",
    "help": "{district}民政局",
    "report": "样本市市场监督管理局",
    "police_non_emergency": "{district}公安分局非警务分流岗",
}

TITLES: dict[Category, str] = {
    "consultation": "咨询",
    "complaint": "投诉",
    "suggestion": "建议",
    "help": "求助",
    "report": "举报",
    "police_non_emergency": "非紧急警务",
}
"""What a receipt's title says."""
STATES: dict[OrderStage, ReceiptState] = {
    "registered": "registered",
    "transcribed": "registered",
    "reviewed": "registered",
    "routed": "registered",
    "assigned": "assigned",
    "handling": "handling",
    "verified": "handling",
    "answered": "answered",
    "followed_up": "closed",
    "archived": "closed",
}
"""Each stage in the words of every receipt."""
REGISTERED: dict[Source, str] = {
    "terminal": "诉求已由自助终端登记。",
    "province": "诉求已由省民呼我为平台转入。",
    "call": "诉求已由热线电话登记。",
    "walk_in": "诉求已由窗口登记。",
    "street": "诉求已由街道上报。",
}
"""The first step of an order's history."""
MADE_UP = ("路灯不亮已有一周。", "小区门口垃圾无人清运。", "施工噪声扰民。", "咨询居住证办理流程。", "井盖松动。")
"""What somebody says of whom nothing was said."""

HOUR, DAY = 3_600, 86_400
DAYS: dict[Category, int] = {
    "consultation": 1,
    "complaint": 5,
    "suggestion": 7,
    "help": 3,
    "report": 5,
    "police_non_emergency": 2,
}
"""Within how many days of its registration, or of its reopening, an order is due."""
_TRANSCRIBED: dict[Source, int] = {"terminal": 60, "province": 60, "call": 300, "walk_in": 600, "street": 600}
SUPERVISED_AFTER, INSPECTED_AFTER = DAY, 3 * DAY
"""After the due time; the warning comes with it."""
RATING_SECONDS = 7 * DAY
"""How long a reply can be rated; then the order is followed up without."""
_AFTER: dict[OrderStage, tuple[Action, int]] = {
    "transcribed": ("review", 600),
    "reviewed": ("route", 300),
    "routed": ("assign", 1_800),
    "assigned": ("handle", 2 * HOUR),
    "verified": ("answer", HOUR),
    "answered": ("follow_up", RATING_SECONDS),
    "followed_up": ("archive", DAY),
}
"""What ends a stage by itself, and after how many seconds."""
ROUNDS = 3
"""Unsatisfied with the reply of this round, the order stays closed and is reported as doubtful (疑难)."""


class IllegalMove(ValueError):
    """An action that the order's stage does not allow."""


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands; `number` counts the orders, times are UTC seconds.

    `escalation` is 1 warned, 2 supervised, 3 inspected; `assigned_at` is when the department of this round had it.
    """

    number: int
    receipt: str
    source: Source
    category: Category
    district: str
    registered_at: int
    due_at: int
    stage: OrderStage = "registered"
    entered_at: int = 0
    department: str = ""
    assigned_at: int = 0
    round: int = 1
    escalation: int = 0
    is_doubtful: bool = False
    reply: str = ""
    verdict: Verdict | None = None

    def is_overdue(self, now: int) -> bool:
        """Whether the department is late and has not finished."""
        return now > self.due_at and self.stage not in ("verified", "answered", "followed_up", "archived")


def move(order: Order, action: Action, at: int, seed: int) -> Order:
    """Return the order after an action; raise IllegalMove when its stage, escalation or round does not allow it."""
    origin, stage = MOVES[action]
    is_allowed = {
        "hand_back": not order.is_doubtful,
        "warn": order.escalation == 0 and at >= order.due_at,
        "supervise": order.escalation == 1 and at >= order.due_at,
        "inspect": order.escalation == 2 or (order.round > 1 and order.escalation < 3),
        "reopen": order.round < ROUNDS,
    }.get(action, True)
    if order.stage != origin or not is_allowed or at < order.entered_at:
        message = f"order {order.receipt}: no {action} in {order.stage}, round {order.round}, level {order.escalation}"
        raise IllegalMove(message)
    entered = at if stage != origin else order.entered_at
    return replace(order, **{"stage": stage, "entered_at": entered, **_changes(order, action, at, seed)})


def _changes(order: Order, action: Action, at: int, seed: int) -> dict[str, Any]:
    """Return what an action changes besides the stage."""
    changes: dict[str, Any] = {}
    match action:
        case "route":
            changes = {"department": COORDINATION if order.is_doubtful else department(order)}
        case "assign":
            changes = {"assigned_at": at}
        case "hand_back":
            changes = {"is_doubtful": True}
        case "warn" | "supervise" | "inspect":
            changes = {"escalation": {"warn": 1, "supervise": 2, "inspect": 3}[action]}
        case "answer":
            changes = {"reply": _reply(order, seed)}
        case "reopen":
            due = at + DAYS[order.category] * DAY
            changes = {"round": order.round + 1, "escalation": 0, "assigned_at": at, "due_at": due}
    return changes


def department(order: Order) -> str:
    """Return whose an order is, by category and district; the police's non-emergency matters have their own (H4)."""
    return _BY_CATEGORY[order.category].format(district=order.district)


def plan(order: Order, seed: int) -> tuple[Action, int] | None:
    """Return what happens to an order next by itself, and when; None once it is archived."""
    since = order.entered_at
    if order.stage == "registered":
        return "transcribe", since + _TRANSCRIBED[order.source]
    if order.stage == "assigned" and _is_handed_back(order, seed):
        return "hand_back", since + HOUR
    if order.stage == "handling":
        return _handling(order, seed)
    if order.stage == "archived":
        return None
    action, seconds = _AFTER[order.stage]
    return action, since + seconds


def _handling(order: Order, seed: int) -> tuple[Action, int]:
    """Return the earliest of: finished, warned, supervised, inspected; a case in its second round is inspected."""
    begun, finished = order.entered_at, _finished_at(order, seed)
    due: list[tuple[int, Action]] = [(finished, "verify")]
    if order.escalation == 0:
        due.append((order.due_at, "warn"))
    if order.escalation == 1:
        due.append((order.due_at + SUPERVISED_AFTER, "supervise"))
    if order.escalation == 2:
        due.append((order.due_at + INSPECTED_AFTER, "inspect"))
    if order.round > 1 and order.escalation < 3:
        due.append(((begun + finished) // 2, "inspect"))
    at, action = min(due)
    return action, max(at, begun)


def _finished_at(order: Order, seed: int) -> int:
    """Return when the department is done: most in time, some only after a warning, supervision or inspection."""
    luck = _luck(order, seed, "handling")
    share, spread = luck.random(), luck.random()
    if share < 0.7:
        return order.entered_at + max(HOUR, int((0.2 + 0.7 * spread) * (order.due_at - order.entered_at)))
    late = {0.85: 0.0, 0.95: SUPERVISED_AFTER, 1.0: INSPECTED_AFTER}
    after = next(seconds for limit, seconds in late.items() if share < limit)
    return max(order.due_at, order.entered_at) + int(after + spread * 0.9 * DAY) + 1


def _is_handed_back(order: Order, seed: int) -> bool:
    is_first = order.round == 1 and not order.is_doubtful and order.category != "police_non_emergency"
    return is_first and _luck(order, seed, "handed back").random() < 0.1


def _reply(order: Order, seed: int) -> str:
    done = ("已现场处理完毕", "已与您反映的单位核实并整改", "已按规定办结", "已列入本月整治计划并开始实施")
    said = _luck(order, seed, "reply").choice(done)
    again = f"（第{order.round}次办理）" if order.round > 1 else ""
    return f"您反映的问题{said}{again}。感谢您对政务工作的支持。——{order.department}"


def _luck(order: Order, seed: int, what: str) -> random.Random:
    return random.Random(f"hotline {seed} {order.number} {order.round} {what}")
