"""The receipt printer: a job is printed, not printed or unknown, and never left for the next citizen (L14, L16)."""

import asyncio
from collections.abc import Callable

import structlog

from devices.config import Printer
from devices.driver import finish
from devices.errors import DeviceError
from devices.link import Link, LinkLost, OpenLink, medium
from devices.printer import job as jobs
from devices.printer import protocol
from devices.printer.job import Job, JobResult
from devices.printer.presenter import LOOK_SECONDS, Presenter
from devices.printer.press import Press, no_answer
from devices.printer.protocol import Condition
from devices.printer.wire import Wire
from devices.status import DeviceState, DeviceStatus, StatusListener, StatusLog

log = structlog.get_logger(__name__)

_OPEN_SECONDS = 5.0
_IDLE_POLL_SECONDS = 30.0
_BITS_PER_BYTE = 10

_STATES = {
    None: DeviceState.ONLINE,
    "printer.cover_open": DeviceState.USER_ERROR,
    "printer.paper_out": DeviceState.OFFLINE,
    "printer.not_ready": DeviceState.OFFLINE,
    "printer.head_hot": DeviceState.DEVICE_BUSY,
    "printer.cutter_jam": DeviceState.HARDWARE_ERROR,
    "printer.hardware_error": DeviceState.HARDWARE_ERROR,
    "printer.presenter_jam": DeviceState.HARDWARE_ERROR,
}


class ReceiptPrinter:
    """A receipt printer on a serial line, at USB or on a network: one life after another, one job at a time."""

    def __init__(self, settings: Printer, open_link: OpenLink, on_status: StatusListener) -> None:
        self.status = DeviceStatus(DeviceState.STARTING)
        self._settings = settings
        self._open_link = open_link
        self._on_status = on_status
        self._log = StatusLog("printer")
        self._lock = asyncio.Lock()
        self._wire: Wire | None = None
        self._identity: str | None = None
        self._bytes_per_second = settings.baud / _BITS_PER_BYTE if medium(settings.port) == "serial" else None
        self._limit_told = False
        self._presenter = Presenter(settings.take_seconds) if settings.presenter == "gs_e" else None
        if self._presenter is None:
            self._press = Press()
        else:
            self._press = Press(protocol.present(settings.presenter_steps), protocol.RETRACT)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve the printer for one life.

        Raises LinkLost when the line is lost or cannot be opened, DeviceError `printer.no_answer` when the printer
        does not answer any more: three ways of asking at the start, DLE EOT 1 to 4 every 30 s later.
        """
        code = "printer.offline"
        try:
            link = await self._open()
            wire = Wire(link, self._bytes_per_second, self._publish)
            try:
                await self._serve(wire, ready)
            finally:
                await link.close()
        except DeviceError as error:
            code = error.code
            raise
        finally:
            self._set_status(DeviceStatus(DeviceState.OFFLINE, code, self._identity))

    async def print_job(self, job: Job) -> JobResult:
        """Print a receipt and say what became of it.

        Raises DeviceError: `printer.offline` when the printer is not served, `printer.unprintable_text` and
        `printer.bad_job` before anything is sent. Cancelled, it clears the printer first, within 4 s.
        """
        dots = jobs.length_dots(job, self._settings.width_dots)
        async with self._lock:
            wire = self._wire
            if wire is None or wire.lost:
                raise DeviceError(
                    "printer.offline", "the printer is not served", advice="Look at its cable and power.", retry=True
                )
            try:
                fault = await self._refusal(wire)
            except LinkLost:
                fault = "printer.lost"
            if fault is not None:
                log.warning("print_refused", code=fault)
                return JobResult("not_printed", fault)
            result = await self._press.print(wire, job, jobs.millimetres(dots, self._settings.dots_per_inch))
            if self._presenter is not None and result.outcome == "printed":
                self._presenter.hold_out()
                self._publish(wire.condition)
                wire.notify()
            return result

    async def is_clear(self) -> bool:
        """Tell whether no receipt waits at the presenter; without one nobody can tell, and paper falls out."""
        return self._presenter is None or not self._presenter.holds

    async def take_back(self) -> None:
        """Take in the receipt that nobody took; raise DeviceError `printer.presenter_jam`, `printer.offline`."""
        async with self._lock:
            wire, presenter = self._wire, self._presenter
            if presenter is None or not presenter.holds:
                return
            try:
                if wire is None:
                    raise LinkLost("the printer is not served")
                await presenter.retract(wire)
            except LinkLost:
                raise DeviceError(
                    "printer.offline", "the printer is not served", advice="Look at its cable and power.", retry=True
                ) from None
            self._publish(wire.condition)
            if presenter.fault is not None:
                raise DeviceError(presenter.fault, "the receipt stays", advice="Free the presenter.", retry=False)

    async def _refusal(self, wire: Wire) -> str | None:
        """Return why a job cannot begin; a receipt that still waits for its citizen is taken back first."""
        fault = await self._press.refusal(wire)
        if fault is None and self._presenter is not None:
            if self._presenter.holds:
                await self._presenter.retract(wire)
                self._publish(wire.condition)
            fault = self._presenter.fault
        return fault

    async def _open(self) -> Link:
        settings = self._settings
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return await self._open_link(settings.port, settings.baud, settings.flow_control)
        except TimeoutError:
            raise LinkLost("the port does not open") from None

    async def _serve(self, wire: Wire, ready: Callable[[], None]) -> None:
        """Serve until the line or the printer fails; raise LinkLost or DeviceError with the reason."""
        async with asyncio.TaskGroup() as tasks:
            listener = tasks.create_task(wire.listen(), name="printer-listen")
            try:
                await self._live(wire, ready)
            except (LinkLost, DeviceError) as error:
                end = error
            finally:
                self._wire = None
                if self._presenter is not None:
                    await finish(self._presenter.leave(wire))
                await self._press.leave(wire)
                listener.cancel()
        raise end

    async def _live(self, wire: Wire, ready: Callable[[], None]) -> None:
        await self._press.start(wire)
        await self._learn(wire)
        self._wire = wire
        self._publish(wire.condition)
        self._tell_link_limit()
        ready()
        while True:
            holds = self._presenter is not None and self._presenter.holds
            seconds = LOOK_SECONDS if holds else _IDLE_POLL_SECONDS
            woken = await wire.until(lambda held=holds: self._has_work(wire, held=held), seconds)  # type: ignore[misc]
            async with self._lock:
                if wire.lost:
                    raise LinkLost("the printer's line is gone")
                await self._look(wire, poll=not woken and not holds)

    def _has_work(self, wire: Wire, *, held: bool) -> bool:
        tidy_up = self._press.untidy and wire.condition.fault is None
        return tidy_up or (self._presenter is not None and self._presenter.holds and not held)

    async def _look(self, wire: Wire, *, poll: bool) -> None:
        """Look after an idle printer; raise LinkLost, or DeviceError when it does not answer."""
        if poll and wire.answered and not await wire.poll():
            raise no_answer()
        if poll and not wire.answered:  # it may have been off when it was asked first
            await wire.write(protocol.AUTOMATIC_STATUS_ON)
            await wire.ask(1)
        was_untidy = self._press.untidy
        await self._press.tidy(wire)
        if self._presenter is not None and self._presenter.holds:
            await self._presenter.look(wire)
        elif poll or was_untidy:
            await self._learn(wire)
        self._publish(wire.condition)

    async def _learn(self, wire: Wire) -> None:
        """Ask what waits in the print queue for an answer: who the printer is, and what is at its outlet."""
        if wire.condition.fault is not None:
            return
        if not wire.serial_known:
            self._identity = await wire.ask_serial()
        if self._presenter is not None and self._presenter.outlet in ("unknown", "jammed"):
            await self._presenter.start(wire)

    def _publish(self, condition: Condition) -> None:
        """Tell how the printer is that serves; before that, and without an answer, nothing is known of it."""
        if self._wire is None:
            return
        code = condition.fault
        details: dict[str, str | bool] = {}
        if condition.cover_open is not None:
            details["cover_open"] = condition.cover_open
        if condition.paper_end or condition.paper_stop:
            details["paper"] = "out"
        elif condition.near_end is not None:
            details["paper"] = "low" if condition.near_end else "full"
        if self._presenter is not None:
            code = code or self._presenter.fault
            details["presenter"] = self._presenter.outlet
        if (limit := self._link_limit()) is not None:
            details["link_limit"] = f"{limit:.0f} mm/s"
        self._set_status(DeviceStatus(_STATES[code], code, self._identity, details))

    def _link_limit(self) -> float | None:
        """Return the millimetres a second that the line carries; None when they are enough, or it has no rate (T4)."""
        needed = jobs.needed_bytes_per_second(self._settings.width_dots, self._settings.dots_per_inch)
        if self._bytes_per_second is None or self._bytes_per_second >= needed:
            return None
        return self._bytes_per_second / needed * jobs.GOAL_MILLIMETRES_PER_SECOND

    def _tell_link_limit(self) -> None:
        """Say once that the line is slower than a full-width picture at 100 mm/s."""
        if self._limit_told or (limit := self._link_limit()) is None:
            return
        self._limit_told = True
        needed = jobs.needed_bytes_per_second(self._settings.width_dots, self._settings.dots_per_inch)
        log.warning(
            "printer_link_slow",
            bytes_per_second=self._bytes_per_second,
            needed_bytes_per_second=round(needed),
            millimetres_per_second=round(limit),
            advice="set printer.baud and the printer to 921600, or connect it by USB or network",
        )

    def _set_status(self, status: DeviceStatus) -> None:
        if status == self.status:
            return
        self._log.note(self.status, status)
        self.status = status
        self._on_status(status)
