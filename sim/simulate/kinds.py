"""Every kind of fault that a simulated terminal suffers, and when which of them comes."""

import random
from collections.abc import Iterator
from typing import Any

from sim.simulate.faults import GAP_SECONDS, Deed, Density, Kind, Place
from sim.simulate.outside import BATTERY_MINUTES, DEVICES

LASTING, LASTING_SECONDS = 0.9, (240.0, 600.0)
"""In an hour full of faults so many of those that need a ticket last so long: a ticket takes up to 210 s."""


def _replug_unseen(place: Place) -> None:
    """Take a device's plug out and put it in while the kernel drops what it would tell of that."""
    kind = place.chance.choice(DEVICES)
    place.around.hotplug.overrun()
    place.around.unplug(kind)
    place.around.plug(kind)


MOST_MILLIMETRES = 45.0
"""No paper of a simulation is longer."""


def _wire(kind: str) -> Iterator[Kind]:
    """What can happen at the wire of each device."""

    def port(place: Place) -> Any:
        return place.around.ports[kind]

    yield Kind(
        f"{kind}.unplug", kind, (5, 420), lambda at: at.around.unplug(kind), lambda at: at.around.plug(kind), True
    )
    for fault in ("garbage", "half", "corrupt", "duplicate", "silent", "late", "unplug"):

        def begin(at: Place, fault: str = fault) -> None:
            port(at).faults.add(fault, at.chance.randrange(1, 6))

        def end(at: Place) -> None:
            port(at).faults.clear()
            port(at).plug()

        name = "cut_reply" if fault == "unplug" else f"{fault}_replies"
        yield Kind(f"{kind}.{name}", kind, (20, 90), begin, end)


def _set(device: str, verb: str, **args: Any) -> Deed:
    """Return a deed that does a verb of a device."""

    def do(place: Place) -> None:
        port = place.around.ports[device]
        port.device.verbs[verb](**args)
        port.nudge()

    return do


def _camera(name: Any, state: Any, code: str | None) -> Deed:
    return lambda place: place.vision.camera_is(name, state, code)


def _faults(**fields: Any) -> Deed:
    def do(place: Place) -> None:
        for name, value in fields.items():
            setattr(place.around.platform.faults, name, value)

    return do


def _line_is_quick(place: Place) -> None:
    place.around.uplink.latency_seconds = place.around.line_seconds


def _uplink(**fields: Any) -> Deed:
    def do(place: Place) -> None:
        for name, value in fields.items():
            setattr(place.around.uplink, name, value)

    return do


def _broken_vision(*, broken: bool) -> Deed:
    def do(place: Place) -> None:
        place.vision.broken = broken
        place.vision.kill()

    return do


def _set_clock(seconds: tuple[float, float]) -> Deed:
    def do(place: Place) -> None:
        place.around.clock_off_seconds += place.chance.uniform(*seconds) * place.chance.choice((-1, 1))

    return do


def _right_clock(place: Place) -> None:
    place.around.clock_off_seconds = 0.0


def _mains_off(minutes: float) -> Deed:
    """Take the mains, with a battery that lasts so long."""

    def do(place: Place) -> None:
        place.expect_cut(expected=True)
        place.around.ups.discharge(minutes)
        place.around.ups.mains_off()

    return do


def _mains_on(place: Place) -> None:
    place.around.ups.mains_on()
    place.expect_cut(expected=False)


KINDS: tuple[Kind, ...] = (
    *(kind for device in DEVICES for kind in _wire(device)),
    Kind("usb.overrun", "usb", (5, 20), _replug_unseen),
    Kind("printer.paper_out", "printer", (30, 300), _set("printer", "paper_out"), _set("printer", "heal"), True),
    Kind("printer.cover_open", "printer", (5, 200), _set("printer", "open_cover"), _set("printer", "heal"), True),
    Kind("printer.cutter_jam", "printer", (60, 300), _set("printer", "cutter_jam"), _set("printer", "heal"), True),
    Kind("printer.head_hot", "printer", (10, 90), _set("printer", "head_hot"), _set("printer", "heal")),
    Kind(
        "printer.mid_page",
        "printer",
        (20, 120),
        lambda at: _set("printer", "paper_out", after_millimetres=at.chance.uniform(1, MOST_MILLIMETRES))(at),
        _set("printer", "heal"),
    ),
    Kind(
        "printer.off",
        "printer",
        (5, 200),
        lambda at: at.around.switch_printer(on=False),
        lambda at: at.around.switch_printer(on=True),
        True,
    ),
    Kind("idcard.leave_mid_read", "idcard", (30, 90), _set("idcard", "leave_mid_read")),
    Kind("idcard.hang_card", "idcard", (30, 90), _set("idcard", "hang_card")),
    Kind(
        "idcard.unauthorised",
        "idcard",
        (30, 200),
        _set("idcard", "authorise", authorised=False),
        _set("idcard", "authorise"),
    ),
    Kind("cardreader.jam", "cardreader", (20, 200), _set("cardreader", "jam"), _set("cardreader", "jam", jammed=False)),
    Kind("cardreader.stick", "cardreader", (30, 90), _set("cardreader", "stick_card", times=2)),
    Kind("cardreader.nak", "cardreader", (20, 60), _set("cardreader", "nak_next", times=3)),
    Kind("cardreader.pulled", "cardreader", (30, 90), _set("cardreader", "pull_back_mid_read")),
    Kind(
        "cardreader.mute_chip",
        "cardreader",
        (30, 90),
        _set("cardreader", "mute_chip"),
        _set("cardreader", "mute_chip", mute=False),
    ),
    *(
        Kind(
            f"{device}.silent",
            device,
            (10, 300),
            _set(device, "silent"),
            _set(device, "heal") if device == "printer" else _set(device, "silent", silent=False),
        )
        for device in ("printer", "cardreader", "pinpad", "fingerprint", "ups", "environment")
    ),
    Kind("pinpad.locked", "pinpad", (10, 60), _set("pinpad", "cancel")),
    Kind("fingerprint.power_cycle", "fingerprint", (10, 40), _set("fingerprint", "power_cycle")),
    Kind("environment.exception", "environment", (20, 60), _set("environment", "exception", times=3)),
    Kind("vision.killed", "vision", (5, 30), lambda at: at.vision.kill()),
    Kind("vision.broken", "vision", (20, 300), _broken_vision(broken=True), _broken_vision(broken=False), True),
    *(
        Kind(
            f"{camera}.{state}",
            component,
            (20, 200),
            _camera(camera, state, f"camera.{code}"),
            _camera(camera, "online", None),
            True,
        )
        for camera, component in (("face", "camera"), ("document", "document_camera"))
        for state, code in (("covered", "covered"), ("frozen", "frozen"), ("lost", "missing"))
    ),
    Kind(
        "line.broker_gone",
        "platform",
        (5, 240),
        lambda at: at.around.uplink.stop(),
        lambda at: at.around.uplink.start(),
    ),
    Kind("line.dropped", "platform", (2, 10), lambda at: at.around.uplink.drop()),
    Kind("line.stalled", "platform", (10, 120), _uplink(latency_seconds=8.0), _line_is_quick),
    Kind("line.loses", "platform", (10, 60), _uplink(lose_next=4), _uplink(lose_next=0)),
    Kind("platform.out", "platform", (5, 240), _faults(is_out=True), _faults(is_out=False)),
    Kind("platform.silent", "platform", (10, 120), _faults(is_silent=True), _faults(is_silent=False)),
    Kind("platform.slow", "platform", (10, 120), _faults(slow_seconds=3.0), _faults(slow_seconds=0.0)),
    Kind("platform.double_answers", "platform", (10, 120), _faults(is_double=True), _faults(is_double=False)),
    Kind("platform.receiptless", "platform", (10, 200), _faults(is_receiptless=True), _faults(is_receiptless=False)),
    Kind("platform.short_keys", "platform", (60, 300), _faults(key_seconds=60), _faults(key_seconds=86_400)),
    Kind(
        "platform.cut_after_charge",
        "platform",
        (60, 240),
        _faults(is_cut_after_charge=True),
        _faults(is_cut_after_charge=False, is_out=False, is_silent=False),
    ),
    Kind("platform.wrong_amount", "platform", (60, 240), _faults(is_amount_wrong=True), _faults(is_amount_wrong=False)),
    Kind(
        "platform.wrong_receipt", "platform", (30, 120), _faults(is_receipt_wrong=True), _faults(is_receipt_wrong=False)
    ),
    Kind("platform.broken_seal", "platform", (30, 120), _faults(is_seal_broken=True), _faults(is_seal_broken=False)),
    Kind("platform.busy_sharing", "platform", (30, 120), _faults(sharing_busy=2), _faults(sharing_busy=0)),
    *(
        Kind(f"platform.{how}_sharing", "platform", (30, 120), _faults(sharing=how), _faults(sharing=None))
        for how in ("damage", "stale", "count")
    ),
    *(
        Kind(f"platform.{how}_catalogue", "platform", (30, 120), _faults(catalogue=how), _faults(catalogue=None))
        for how in ("signature", "digest", "json")
    ),
    Kind("platform.rotates_keys", "platform", (2, 10), lambda at: at.order("rotate_keys")),
    Kind(
        "platform.revokes_keys", "platform", (10, 120), lambda at: at.order("revoke"), lambda at: at.order("reinstate")
    ),
    Kind("platform.catalogue", "platform", (30, 90), lambda at: at.order("publish_catalogue")),
    Kind(
        "platform.maintenance",
        "none",
        (5, 10),
        lambda at: at.order("announce_maintenance", begins_in_seconds=60, seconds=60),
    ),
    Kind(
        "bank.refuses", "platform", (60, 240), _faults(bank_refusal="payment.card_refused"), _faults(bank_refusal=None)
    ),
    *(
        Kind(
            f"bank.says_{how}",
            "platform",
            (60, 240),
            _faults(bank_hold=how),
            lambda at: (_faults(bank_hold=None)(at), at.order("bank_says")),
        )
        for how in ("late", "slow")
    ),
    Kind("clock.step", "none", (60, 900), _set_clock((2, 600)), _right_clock),
    Kind("clock.days", "none", (60, 900), _set_clock((86_400, 10 * 86_400)), _right_clock),
    Kind("mains.off", "power", (5, 240), _mains_off(BATTERY_MINUTES), _mains_on),
    Kind("mains.off_long", "power", (200, 600), _mains_off(4.0), _mains_on),
    Kind("power.cut", "power", (20, 120), lambda at: at.cut(at_point=False)),
    Kind("power.cut_mid_instruction", "power", (20, 120), lambda at: at.cut(at_point=True)),
    Kind("screen.stalls", "screen", (2, 40), lambda at: at.stall(stalls=True), lambda at: at.stall(stalls=False)),
    Kind("daemon.stopped", "daemon", (2, 5), lambda at: at.stop()),
    Kind("daemon.killed", "daemon", (2, 5), lambda at: at.kill(at_point=False)),
    Kind("daemon.killed_mid_instruction", "daemon", (2, 5), lambda at: at.kill(at_point=True)),
)


def schedule(density: Density, seconds: float, chance: random.Random) -> Iterator[tuple[float, Kind, float]]:
    """Yield when each fault begins, its kind and how long it lasts: every kind comes once before one comes again."""
    at = chance.uniform(60, 180)
    while True:
        for kind in chance.sample(KINDS, len(KINDS)):
            if at >= seconds:
                return
            is_lasting = density is Density.HEAVY and kind.needs_ticket and chance.random() < LASTING
            yield at, kind, chance.uniform(*(LASTING_SECONDS if is_lasting else kind.seconds))
            at += chance.expovariate(1 / GAP_SECONDS[density])
