"""Why somebody who came may go without what they came for: faults of what their visit needs, and no others."""

from collections.abc import Iterable

from sim.citizens.plan import Visit
from sim.simulate.availability import Availability
from sim.simulate.faults import Window

_EVERYBODY = ("idcard", "vision", "camera", "platform", "screen")
NEEDS: dict[Visit, tuple[str, ...]] = {
    "certificate": (*_EVERYBODY, "printer"),
    "application": (*_EVERYBODY, "document_camera"),
    "fee_by_card": (*_EVERYBODY, "document_camera", "cardreader", "pinpad", "printer"),
    "fee_by_qr": (*_EVERYBODY, "document_camera", "cardreader", "pinpad", "printer"),
    "progress": _EVERYBODY,
    "hotline": (*_EVERYBODY, "document_camera"),
    "sharing": _EVERYBODY,
}
"""The components without which a visit does not come to its end; the matter with a fee asks for a PIN pad anyway."""
STEPS: dict[str, tuple[str, ...]] = {
    "session.open": ("idcard", "cardreader", "printer"),
    "session.consent": (),
    "session.verify_identity": ("idcard", "vision", "camera", "platform"),
    "session.request_certificate": ("platform", "vision", "printer"),
    "session.reprint_certificate": ("platform", "vision", "printer"),
    "session.begin_document": ("vision", "document_camera"),
    "session.add_page": ("vision", "document_camera"),
    "session.finish_document": ("vision", "document_camera"),
    "application.begin": ("platform", "document_camera", "cardreader", "pinpad"),
    "application.form": (),
    "application.material": (),
    "payment.begin": ("platform",),
    "payment.card": ("platform", "cardreader", "pinpad"),
    "payment.await": ("platform",),
    "payment.receipt": ("printer",),
    "application.check": ("platform",),
    "application.file": ("platform",),
    "progress.mine": ("platform",),
    "hotline.begin": ("platform",),
    "hotline.attach": (),
    "hotline.register": ("platform",),
    "hotline.standing": ("platform",),
    "sharing.query": ("platform",),
    "sharing.dataset": ("platform",),
    "sharing.call": ("platform",),
}
"""The components without which a step of a visit is not done."""
_FILED: tuple[Visit, ...] = ("application", "fee_by_card", "fee_by_qr")
_PAID: tuple[Visit, ...] = ("fee_by_card", "fee_by_qr")
_ONLY: dict[str, tuple[Visit, ...]] = {
    "bank.refuses": _PAID,
    "bank.says_late": _PAID,
    "bank.says_slow": _PAID,
    "platform.wrong_amount": _PAID,
    "platform.wrong_receipt": (*_FILED, "hotline"),
    "platform.broken_seal": ("certificate",),
    "platform.busy_sharing": ("sharing",),
    "platform.damage_sharing": ("sharing",),
    "platform.stale_sharing": ("sharing",),
    "platform.count_sharing": ("sharing",),
    "platform.signature_catalogue": _FILED,
    "platform.digest_catalogue": _FILED,
    "platform.json_catalogue": _FILED,
    "platform.catalogue": _FILED,
    "platform.receiptless": (),
    "platform.double_answers": (),
    "platform.rotates_keys": (),
}
"""Faults of the platform that only some visits have to do with."""
_OVER = ("session.ended", "session.unknown")
SETTLING_SECONDS = 30.0
"""Until a fault that is over, or a start of the daemon, is got over, unless the board says that it takes longer."""


def needed(visit: Visit, how: str) -> tuple[str, ...]:
    """Return the components without which somebody's visit ended as `how` says, `METHOD: CODE`."""
    method, _, code = how.partition(": ")
    if code in _OVER:
        return ("screen",)
    return (*STEPS[method], "screen") if method in STEPS else NEEDS[visit]


def excuse(
    visit: Visit,
    components: tuple[str, ...],
    *,
    since: float,
    now: float,
    windows: Iterable[Window],
    board: Availability,
) -> str | None:
    """Return what excuses that somebody was not served between two moments, None where nothing does.

    That is a fault of one of these components; or that the board told of one of them, of the power, a lock or no daemon
    as not well: whether it had a reason for that is judged by itself. What takes the daemon away counts by its absence,
    but for a stop in order, which ends the session before.
    """
    for window in windows:
        kind = window.kind
        is_seen = kind.target in ("power", "daemon") and kind.name != "daemon.stopped"
        if is_seen or visit not in _ONLY.get(kind.name, (visit,)):
            continue
        is_then = window.since <= now and since <= window.until + SETTLING_SECONDS
        if is_then and any(kind.hits(component) for component in components):
            return kind.name
    for component, began, ended in board.times_unwell(now):
        is_then = began <= now and since <= ended + (SETTLING_SECONDS if component == "daemon" else 0.0)
        if is_then and component in (*components, "power", "lockdown", "daemon"):
            return f"{component} away"
    return None
