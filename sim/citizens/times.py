"""How long each operation took and where the time went, from the steps of its supervision events (T12, T13)."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import msgspec

from sim.citizens.ledger import Line, Step

LIMIT_SECONDS = 5.0
"""What one operation may take (T13)."""

Place = Literal["device", "platform", "vision", "terminal"]
PLACES: tuple[Place, ...] = get_args(Place)

_WHERE: dict[Place, tuple[str, ...]] = {
    "device": ("read_card", "load_pin_key", "enter_pin", "print"),
    "platform": (
        "assert_identity",
        "issue",
        "ask_progress",
        "ask_standing",
        "open_order",
        "charge_card",
        "await_payment",
        "file",
        "register",
        "use_shared",
        "reverse",
        "settle_issue",
        "settle_filing",
        "settle_request",
    ),
    "vision": ("verify_face", "rasterise", "begin_document", "add_page", "finish_document"),
    "terminal": (
        "consent",
        "check_seal",
        "begin_application",
        "check_form",
        "take_material",
        "check_application",
        "check_payment",
        "charge",
        "find_order",
        "begin_request",
        "take_attachment",
        "check_request",
        "check_grant",
        "check_data",
        "switch_dataset",
        "read_dataset",
    ),
}
PLACE_OF: dict[str, Place] = {step: place for place, steps in _WHERE.items() for step in steps}
"""Where a step's time goes: a device and its wire, the platform and the line, the vision process, our own code."""


class Times(msgspec.Struct, frozen=True):
    """Seconds."""

    p50: float
    p95: float
    p99: float
    longest: float


class Operation(msgspec.Struct, frozen=True):
    """A method of the API over all its calls.

    `steps` is how long it took by its events, `call` by its caller's clock: with audit log, journal and API.
    `events` is the least and the most events of a transaction. `shares` says where the caller's time went, in percent:
    what no event accounts for is the terminal's. None for a method without events, such as the opening of a session.
    """

    calls: int
    call: Times
    steps: Times | None
    events: tuple[int, int]
    shares: dict[Place, float] | None


def operations(lines: Sequence[Line], by_call: Sequence[list[Step] | None]) -> dict[str, Operation]:
    """Return the figures of each method; `by_call` are the platform's events of each line."""
    methods: dict[str, list[tuple[Line, list[Step]]]] = defaultdict(list)
    for line, events in zip(lines, by_call, strict=True):
        if events is not None:
            methods[line.method].append((line, events))
    return {method: _operation(calls) for method, calls in sorted(methods.items())}


def shares(lines: Iterable[tuple[Line, list[Step]]]) -> dict[Place, float]:
    """Return where the callers' time went in calls that have events, in percent."""
    seconds = dict.fromkeys(PLACES, 0.0)
    total = 0.0
    for line, events in lines:
        total += line.seconds
        for name, own in exclusive(events):
            seconds[PLACE_OF.get(name, "terminal")] += own
    seconds["terminal"] += total - sum(seconds.values())
    return {place: round(100 * spent / total, 1) if total else 0.0 for place, spent in seconds.items()}


def exclusive(events: Sequence[Step]) -> list[tuple[str, float]]:
    """Return each step's own seconds: a use of shared data is timed with the check of what came inside it."""
    own = {place: (name, seconds) for place, (name, _, _, seconds) in enumerate(events)}
    for (place, inner), (_, outer) in pairwise(enumerate(events)):
        if (inner[0], outer[0]) == ("check_data", "use_shared"):
            own[place + 1] = (outer[0], outer[3] - inner[3])
    return list(own.values())


def machine_seconds(events: Sequence[Step]) -> float:
    """Return how long an operation took by its events."""
    return sum(seconds for _, seconds in exclusive(events))


def times(seconds: Sequence[float]) -> Times:
    """Return the percentiles of at least one value."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else list(seconds) * 99
    return Times(*(round(value, 4) for value in (cuts[49], cuts[94], cuts[98], max(seconds))))


def _operation(calls: list[tuple[Line, list[Step]]]) -> Operation:
    numbers = [len(events) for _, events in calls]
    return Operation(
        calls=len(calls),
        call=times([line.seconds for line, _ in calls]),
        steps=times([machine_seconds(events) for _, events in calls]) if any(numbers) else None,
        events=(min(numbers), max(numbers)),
        shares=shares(calls) if any(numbers) else None,
    )
