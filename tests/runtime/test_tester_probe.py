"""The conformance steps of `govterm probe` over every kind's virtual device, on virtual time (T14, L14)."""

from typing import Any

import msgspec
import pytest

from devices.capture import Tap
from devices.idcard import protocol as idcard
from devices.masking.pieces import Piece
from devices.status import DeviceState, DeviceStatus
from runtime import drivers
from runtime.probe import SECTIONS, Report, SettingsError, Step, StepResult, make_settings, probe, wire_lines
from runtime.probe_common import cancelling
from runtime.probe_report import render
from runtime.probe_steps import OPERATIONS, capture_steps, probe_steps
from sim import virtual_time
from sim.memory import MemoryLinks
from tests.runtime.tester_rig import CITIZEN, MAKE, PHOTO, lay_down_card, memory_bench

BY_HAND = {"read a card", "match a finger", "read a bank card", "press a key"}


def run(kind: str, device: Any = None, *, hand: bool = False, **wire: Any) -> Report:
    async def story() -> Report:
        return await probe(memory_bench(kind, device, hand=hand, **wire), probe_steps(kind))

    return virtual_time.run(story())


def outcomes(report: Report) -> dict[str, str]:
    return {step.name: step.outcome for step in report.steps}


@pytest.mark.parametrize("kind", drivers.KINDS)
def test_a_good_device_passes_and_what_needs_a_hand_is_skipped(kind: str) -> None:
    report = run(kind)
    anonymous = kind == "environment"
    skipped = BY_HAND | {"identity"} if anonymous else BY_HAND | {"decode its photo"}
    assert report.passed
    assert {name for name, outcome in outcomes(report).items() if outcome != "passed"} <= skipped
    assert all(step.detail for step in report.steps)
    assert (report.identity is None) == anonymous


@pytest.mark.parametrize("kind", ["idcard", "fingerprint", "cardreader", "pinpad"])
def test_with_a_hand_the_rest_passes_too(kind: str) -> None:
    report = run(kind, hand=True)
    assert report.passed, report
    assert {outcomes(report).get(name, "passed") for name in BY_HAND} == {"passed"}


@pytest.mark.parametrize("kind", ["idcard", "fingerprint", "cardreader", "pinpad"])
def test_a_hand_that_does_nothing_is_no_failure(kind: str) -> None:
    async def story() -> Report:
        bench = memory_bench(kind, hand=True)
        bench.tell = lambda _: None
        return await probe(bench, probe_steps(kind))

    report = virtual_time.run(story())
    assert report.passed
    assert "skipped" in outcomes(report).values()


@pytest.mark.parametrize("kind", drivers.KINDS)
def test_slow_and_chopped_wires_pass(kind: str) -> None:
    assert run(kind, latency_seconds=0.05, chunk_bytes=1).passed


class Silent:
    @property
    def verbs(self) -> dict[str, Any]:
        return {}

    def feed(self, data: bytes) -> bytes:
        return b""


@pytest.mark.parametrize("kind", drivers.KINDS)
def test_a_silent_device_fails_at_once_and_shows_what_was_said(kind: str) -> None:
    report = run(kind, Silent())
    first, *others = report.steps
    assert (report.passed, report.identity) == (False, None)
    assert first.outcome == "failed"
    assert first.detail.splitlines()[0].startswith(f"{kind}.no_answer: ")
    assert first.detail.splitlines()[1].startswith("> ")
    assert {other.outcome for other in others} == {"skipped"}


def test_no_port_is_told() -> None:
    async def story() -> Report:
        bench = memory_bench("ups")
        bench.open_link = MemoryLinks({})
        bench.__post_init__()
        return await probe(bench, probe_steps("ups"))

    report = virtual_time.run(story())
    assert report.steps[0] == StepResult("open", "failed", 0.0, "no port ups")


def test_a_fault_is_told_with_its_code_and_the_next_step_begins_anew() -> None:
    printer = MAKE["printer"]()
    printer.verbs["paper_out"]()
    report = run("printer", printer)
    details = {step.name: step.detail.splitlines()[0] for step in report.steps if step.outcome == "failed"}
    assert details == {"status": "offline, printer.paper_out", "print a slip": "not_printed: printer.paper_out"}
    assert outcomes(report)["close and reopen"] == "passed"


def test_a_port_that_two_can_open_is_found() -> None:
    async def story() -> Report:
        bench = memory_bench("environment")
        other = memory_bench("environment")
        links = iter((bench.open_link, other.open_link))

        async def opened(*how: Any) -> Any:
            return await next(links)(*how)

        bench.open_link = opened
        bench.__post_init__()
        return await probe(bench, [step for step in probe_steps("environment") if "open" in step.name][:2])

    report = virtual_time.run(story())
    assert [step.outcome for step in report.steps] == ["passed", "failed"]


def test_a_driver_that_raises_anything_is_no_end_of_the_probe() -> None:
    async def broken(_: Any) -> str:
        raise RuntimeError("王小明")

    async def story() -> Report:
        steps = [probe_steps("ups")[0], Step("broken", broken), probe_steps("ups")[-1]]
        return await probe(memory_bench("ups"), steps)

    report = virtual_time.run(story())
    assert [step.outcome for step in report.steps] == ["passed", "failed", "passed"]
    assert report.steps[1].detail == "the driver ends in RuntimeError"


def test_a_driver_whose_life_ends_in_anything_is_no_end_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """T20: a foreign exception's words could be a citizen's."""

    class Foreign:
        status = DeviceStatus(DeviceState.STARTING)

        async def run(self, ready: Any) -> None:
            raise RuntimeError("王小明")

    monkeypatch.setattr(drivers, "load", lambda kind, name: lambda *_: Foreign())
    report = run("ups")
    assert report.steps[0].detail == "the driver ends in RuntimeError"
    assert {step.outcome for step in report.steps[1:]} == {"skipped"}


def test_the_photo_decoder_that_is_missing_is_a_failure_only_when_it_was_named() -> None:
    async def story(library: str | None) -> Report:
        bench = memory_bench("idcard", hand=True)
        bench.photo_library = library
        report = await probe(bench, capture_steps("idcard"))
        assert not any(bench.photo), "wiped"
        return report

    named = virtual_time.run(story("/no/such/library.so")).steps[-1]
    assert (named.outcome, named.detail.split(":")[0]) == ("failed", "photo.decoder_missing")
    unnamed = virtual_time.run(story(None)).steps[-1]
    assert (unnamed.outcome, unnamed.detail) == ("skipped", "needs the vendor's decoder: --photo-library PATH")


def test_of_a_personal_wire_only_the_heads_are_shown() -> None:
    """T20: whatever fails, a result holds nothing of a card."""
    heard: list[Any] = []

    async def story() -> None:
        bench = memory_bench("idcard")
        lay_down_card(bench.open_link.ports["idcard"].device)  # type: ignore[attr-defined]
        tap = Tap("idcard", bench.open_link, lambda _, way, piece: heard.append((way, piece)))
        link = await tap("idcard", 9600)
        for command in (idcard.Command.FIND, idcard.Command.SELECT, idcard.Command.READ):
            await link.write(idcard.encode_request(command))
            await link.read()
        await link.close()

    virtual_time.run(story())
    lines = wire_lines(heard)
    assert lines[-1] == "< AA AA AA 96 69 05 08 00 00 90 + 1285 bytes"
    secrets = [CITIZEN.name.encode("utf-16-le").hex(" ").upper(), PHOTO[:4].hex(" ").upper()]
    assert not [line for line in lines for secret in secrets if secret in line]


def test_what_is_over_at_once_was_not_cancelled() -> None:
    """A step never claims what it did not do."""

    async def at_once(_: Any) -> str:
        return "done"

    async def story() -> Report:
        return await probe(memory_bench("ups"), [Step("cancel", cancelling(at_once))])

    (step,) = virtual_time.run(story()).steps
    assert (step.outcome, step.detail) == ("skipped", "the call was over before it could be cancelled")


def test_noise_is_told_in_one_line() -> None:
    noise: list[Any] = [("to_host", Piece(bytes(1), 0))] * 5
    assert wire_lines([*noise, ("to_device", Piece(b"\x05", 1))]) == ["< 5 bytes", "> 05"]


@pytest.mark.parametrize(
    ("baud", "assignments", "said"),
    [
        (1, [], "baud"),
        (None, ["unit = 300"], "unit"),
        (None, ["colour = 1"], "colour"),
        (None, ["unit ="], "Invalid value"),
    ],
)
def test_a_wrong_setting_names_the_kind_and_the_key(baud: int | None, assignments: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=rf"\[environment\] .*{said}"):
        make_settings("environment", "port", baud, assignments)


def test_settings_come_from_the_kinds_section() -> None:
    made = make_settings("environment", "port", 19_200, ["unit = 3"])
    assert (made.port, made.baud, made.unit, made.door_input) == ("port", 19_200, 3, 0)


def test_every_kind_can_be_probed() -> None:
    assert set(OPERATIONS) == set(SECTIONS) == {*drivers.KINDS, "camera"}


def test_the_json_has_exactly_the_stated_shape() -> None:
    said = msgspec.to_builtins(run("ups"))
    assert list(said) == ["kind", "identity", "steps", "passed"]
    assert all(list(step) == ["name", "outcome", "seconds", "detail"] for step in said["steps"])


def test_the_page_needs_nothing_and_escapes_everything() -> None:
    steps = [StepResult("open", "failed", 1.5, "<script>&\n> 05")]
    page = render(Report("ups", "<b>", steps, passed=False), port="/dev/<x>", when="2026-01-01", version="1")
    assert "&lt;script&gt;&amp;\n&gt; 05" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'class="failed">failed' in page
    assert "1.500" in page
