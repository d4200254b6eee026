"""A method for each of the API's. Generated from its table: `python -m runtime.api.client_source`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runtime.client.typed import DEFAULT_SECONDS, Typed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.api.hotline_shapes import HotlineShown
    from runtime.api.lockdown_methods import LockList
    from runtime.api.matters_shapes import CatalogueInForce, MatterShown, MattersListed
    from runtime.api.operations import OperationList, OperationStarted, OperationState
    from runtime.api.shapes import (
        AlarmDraft,
        AlarmList,
        Described,
        Nothing,
        PreviewOpened,
        SessionExtended,
        SessionOpened,
        TerminalStatus,
        TrialAnswered,
        TrialRecorded,
    )
    from runtime.api.staff_methods import ActList
    from runtime.api.terminal_methods import NextBeat, Subscribed, Welcome
    from runtime.approvals import Act
    from runtime.services.applications import ApplicationBegun, ApplicationChecked, ApplicationFiled, ApplicationForm
    from runtime.services.certificate import CertificateResult
    from runtime.services.consent import ConsentResult
    from runtime.services.document import DocumentResult, PageResult
    from runtime.services.hotline_results import AttachmentTaken, RequestBegun, RequestRegistered, RequestShown
    from runtime.services.identity import IdentityResult
    from runtime.services.payment import PaymentShown
    from runtime.services.payment_days import PaymentDay, PaymentGivenBack
    from runtime.services.payment_slip import PaymentSlip
    from runtime.services.progress import ProgressResult
    from runtime.services.sharing import DataSetShown, Reconciled, ResourcesShown, Shared
    from runtime.services.statement import StatementShown
    from runtime.services.steps import Result
    from runtime.state import Place
    from runtime.tickets import Ticket, TicketList


class TerminalMethods(Typed):
    """The methods that need no session."""

    async def rpc_discover(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> Described:
        """This API as an OpenRPC document."""
        result: Described = await self._ask(
            "rpc.discover",
            seconds,
        )
        return result

    async def rpc_hello(
        self,
        *,
        client: str,
        version: int,
        seconds: float = DEFAULT_SECONDS,
    ) -> Welcome:
        """Say which program calls and which version of this API it was written for; the first call of a careful
        client."""
        result: Welcome = await self._ask(
            "rpc.hello",
            seconds,
            client=client,
            version=version,
        )
        return result

    async def status(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> TerminalStatus:
        """The terminal's version and state."""
        result: TerminalStatus = await self._ask(
            "terminal.status",
            seconds,
        )
        return result

    async def events_subscribe(
        self,
        *,
        since: Place | None = None,
        seconds: float = DEFAULT_SECONDS,
    ) -> Subscribed:
        """The whole state, then each change as events.change."""
        result: Subscribed = await self._ask(
            "events.subscribe",
            seconds,
            since=since,
        )
        return result

    async def ui_heartbeat(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> NextBeat:
        """Promise to call again, 3 times within api.ui_silence_seconds."""
        result: NextBeat = await self._ask(
            "ui.heartbeat",
            seconds,
        )
        return result

    async def operation_start(
        self,
        *,
        method: str,
        params: Mapping[str, Any] = {},
        seconds: float = DEFAULT_SECONDS,
    ) -> OperationStarted:
        """Do a call as an operation: the answer is there at once, the call's own result or error with
        operation.wait."""
        result: OperationStarted = await self._ask(
            "operation.start",
            seconds,
            method=method,
            params=params,
        )
        return result

    async def operation_wait(
        self,
        *,
        operation: str,
        seconds: float = 30.0,
    ) -> OperationState:
        """Wait for an operation's end, at most so long; it goes on when the time is over."""
        result: OperationState = await self._ask(
            "operation.wait",
            seconds + DEFAULT_SECONDS,
            operation=operation,
            seconds=seconds,
        )
        return result

    async def operation_cancel(
        self,
        *,
        operation: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> OperationState:
        """End an operation; the answer comes when it has left its devices safe."""
        result: OperationState = await self._ask(
            "operation.cancel",
            seconds,
            operation=operation,
        )
        return result

    async def operation_list(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> OperationList:
        """The operations of this connection, oldest first."""
        result: OperationList = await self._ask(
            "operation.list",
            seconds,
        )
        return result

    async def session_open(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> SessionOpened:
        """Begin a citizen's session."""
        result: SessionOpened = await self._ask(
            "session.open",
            seconds,
        )
        return result

    async def matters_list(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> MattersListed:
        """The catalogue of matters in force."""
        result: MattersListed = await self._ask(
            "matters.list",
            seconds,
        )
        return result

    async def matters_show(
        self,
        *,
        matter: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> MatterShown:
        """A matter with the JSON Schema (2020-12) of its form, its materials and its fee; matter.unknown."""
        result: MatterShown = await self._ask(
            "matters.show",
            seconds,
            matter=matter,
        )
        return result

    async def matters_rollback(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> CatalogueInForce:
        """Go back to the previous catalogue; the one that is left is not fetched again, a later one is."""
        result: CatalogueInForce = await self._ask(
            "matters.rollback",
            seconds,
        )
        return result

    async def progress_by_receipt(
        self,
        *,
        receipt: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> ProgressResult:
        """Where a receipt stands, for whoever has its number, with or without a session: title, state and time only."""
        result: ProgressResult = await self._ask(
            "progress.by_receipt",
            seconds,
            receipt=receipt,
        )
        return result

    async def payments_day(
        self,
        *,
        day: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentDay:
        """The terminal's orders of a day, and what its last comparison with the platform's list found."""
        result: PaymentDay = await self._ask(
            "payments.day",
            seconds,
            day=day,
        )
        return result

    async def payments_reconcile(
        self,
        *,
        day: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentDay:
        """Compare a day with the platform's list now; it is done by itself at the configured hour of the next day."""
        result: PaymentDay = await self._ask(
            "payments.reconcile",
            seconds,
            day=day,
        )
        return result

    async def payments_reverse(
        self,
        *,
        order: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentGivenBack:
        """Give back an order that the platform has as paid and the terminal has not, by a person's decision: no
        comparison does it by itself."""
        result: PaymentGivenBack = await self._ask(
            "payments.reverse",
            seconds,
            order=order,
        )
        return result

    async def hotline_categories(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> HotlineShown:
        """What a request may be about and where, and the notice of what to dial in an emergency, which is shown before
        anything is typed."""
        result: HotlineShown = await self._ask(
            "hotline.categories",
            seconds,
        )
        return result

    async def sharing_resources(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> ResourcesShown:
        """Every resource, its schemas and what is granted of it; state is active, suspended on arrears, or unknown
        before the platform ever said."""
        result: ResourcesShown = await self._ask(
            "sharing.resources",
            seconds,
        )
        return result

    async def sharing_query(
        self,
        *,
        resource: str,
        purpose: str,
        parameters: Mapping[str, Any] = {},
        seconds: float = DEFAULT_SECONDS,
    ) -> Shared:
        """Ask a resource once."""
        result: Shared = await self._ask(
            "sharing.query",
            seconds,
            resource=resource,
            purpose=purpose,
            parameters=parameters,
        )
        return result

    async def sharing_call(
        self,
        *,
        resource: str,
        purpose: str,
        parameters: Mapping[str, Any] = {},
        seconds: float = DEFAULT_SECONDS,
    ) -> Shared:
        """Call a resource that checks something, as sharing.query otherwise."""
        result: Shared = await self._ask(
            "sharing.call",
            seconds,
            resource=resource,
            purpose=purpose,
            parameters=parameters,
        )
        return result

    async def sharing_dataset(
        self,
        *,
        resource: str,
        purpose: str,
        pull: bool = True,
        first: int = 0,
        most: int = 0,
        seconds: float = DEFAULT_SECONDS,
    ) -> DataSetShown:
        """Bring a data set to the platform's current version and show some of its rows; sharing.progress tells how far
        it is."""
        result: DataSetShown = await self._ask(
            "sharing.dataset",
            seconds,
            resource=resource,
            purpose=purpose,
            pull=pull,
            first=first,
            most=most,
        )
        return result

    async def sharing_statement(
        self,
        *,
        month: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> StatementShown:
        """What this terminal counted of a month, with a text for a person (S6)."""
        result: StatementShown = await self._ask(
            "sharing.statement",
            seconds,
            month=month,
        )
        return result

    async def sharing_reconcile(
        self,
        *,
        month: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> Reconciled:
        """Compare a month with the platform's count; the differences are kept and shown by sharing.statement too."""
        result: Reconciled = await self._ask(
            "sharing.reconcile",
            seconds,
            month=month,
        )
        return result

    async def power_off(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> Nothing:
        """Order the host to power off; session.busy while a citizen is served."""
        result: Nothing = await self._ask(
            "terminal.power_off",
            seconds,
        )
        return result

    async def devices_retry(
        self,
        *,
        device: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> Nothing:
        """Try a device at once that gave up, waits for its next try, or was refused; one that runs is left alone."""
        result: Nothing = await self._ask(
            "devices.retry",
            seconds,
            device=device,
        )
        return result

    async def devices_accept(
        self,
        *,
        device: str,
        identity: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> Nothing:
        """Accept the device of this identity that was refused as KIND.swapped: from now on it is the expected one."""
        result: Nothing = await self._ask(
            "devices.accept",
            seconds,
            device=device,
            identity=identity,
        )
        return result

    async def tickets_list(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> TicketList:
        """The open tickets and the last closed ones, newest first, and the late answers of the year (T15)."""
        result: TicketList = await self._ask(
            "tickets.list",
            seconds,
        )
        return result

    async def tickets_answer(
        self,
        *,
        ticket: str,
        step: Literal["answer", "on_site", "part"],
        seconds: float = DEFAULT_SECONDS,
    ) -> Ticket:
        """Stop one of a ticket's clocks; recovery closes a ticket by itself."""
        result: Ticket = await self._ask(
            "tickets.answer",
            seconds,
            ticket=ticket,
            step=step,
        )
        return result

    async def alarms_list(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> AlarmList:
        """Every alarm that waits for the platform's receipt and the last others, newest first, with its clock (T23)."""
        result: AlarmList = await self._ask(
            "alarms.list",
            seconds,
        )
        return result

    async def alarms_draft(
        self,
        *,
        alarm: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> AlarmDraft:
        """The written report of an alarm in Chinese, for a person to complete and send within 30 min (T23)."""
        result: AlarmDraft = await self._ask(
            "alarms.draft",
            seconds,
            alarm=alarm,
        )
        return result

    async def trial_record(
        self,
        *,
        id: str,  # noqa: A002
        digest: bytes,
        filler: bytes,
        stream: Literal["supervision", "telemetry"] = "supervision",
        seconds: float = DEFAULT_SECONDS,
    ) -> TrialRecorded:
        """Try the line with a record of bytes that mean nothing; they and their SM3 digest are Base64."""
        result: TrialRecorded = await self._ask(
            "trial.record",
            seconds,
            id=id,
            digest=digest,
            filler=filler,
            stream=stream,
        )
        return result

    async def trial_call(
        self,
        *,
        id: str,  # noqa: A002
        filler_bytes: int = 0,
        answer_bytes: int = 0,
        deadline_seconds: float = 10.0,
        seconds: float = DEFAULT_SECONDS,
    ) -> TrialAnswered:
        """Try the line with a call of random bytes, up to a scanned document's size: the answer comes with the
        platform's; digest is the SM3 of what went up, in Base64."""
        result: TrialAnswered = await self._ask(
            "trial.call",
            seconds,
            id=id,
            filler_bytes=filler_bytes,
            answer_bytes=answer_bytes,
            deadline_seconds=deadline_seconds,
        )
        return result

    async def lockdown_list(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> LockList:
        """Why no session is opened: every lock after tampering, and whether its cause still holds."""
        result: LockList = await self._ask(
            "lockdown.list",
            seconds,
        )
        return result

    async def lockdown_clear(
        self,
        *,
        lock: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> LockList:
        """Open a lock once its cause is over, and return those that are left; without any, sessions are opened
        again."""
        result: LockList = await self._ask(
            "lockdown.clear",
            seconds,
            lock=lock,
        )
        return result

    async def staff_acts(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> ActList:
        """The sensitive acts that were asked for in the last 10 min and are not done: who asked, who approved."""
        result: ActList = await self._ask(
            "staff.acts",
            seconds,
        )
        return result

    async def staff_approve(
        self,
        *,
        act: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> Act:
        """Approve of an act that another person asked for, who then calls again and is served."""
        result: Act = await self._ask(
            "staff.approve",
            seconds,
            act=act,
        )
        return result


class SessionMethods(Typed):
    """The methods of a citizen's session."""

    async def extend(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> SessionExtended:
        """Keep the session from ending of idleness, as any other request of it does."""
        result: SessionExtended = await self._ask(
            "session.extend",
            seconds,
        )
        return result

    async def consent(
        self,
        *,
        agreed: bool,
        version: str,
        purpose: Literal["face", "fingerprint"] = "face",
        seconds: float = DEFAULT_SECONDS,
    ) -> ConsentResult:
        """Record what the citizen chose when asked to consent to the use of a biometric; nothing is compared
        without."""
        result: ConsentResult = await self._ask(
            "session.consent",
            seconds,
            agreed=agreed,
            version=version,
            purpose=purpose,
        )
        return result

    async def verify_identity(
        self,
        *,
        means: Literal["face", "fingerprint"] = "face",
        seconds: float = DEFAULT_SECONDS,
    ) -> IdentityResult:
        """Read the ID card, compare its photo with the person before the camera or its features with a finger, and get
        the platform's assertion, which every later call carries."""
        result: IdentityResult = await self._ask(
            "session.verify_identity",
            seconds,
            means=means,
        )
        return result

    async def assist(
        self,
        *,
        staff: str,
        code: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> IdentityResult:
        """Verify the citizen by a member of staff who looks at card and person: read the ID card and have the platform
        check the one-time code."""
        result: IdentityResult = await self._ask(
            "session.assist",
            seconds,
            staff=staff,
            code=code,
        )
        return result

    async def request_certificate(
        self,
        *,
        certificate: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> CertificateResult:
        """Obtain a certificate for the verified citizen and print it."""
        result: CertificateResult = await self._ask(
            "session.request_certificate",
            seconds,
            certificate=certificate,
        )
        return result

    async def reprint_certificate(
        self,
        *,
        receipt: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> CertificateResult:
        """Print a certificate of the verified citizen again, by its receipt number; the paper says that it is a reprint
        and which."""
        result: CertificateResult = await self._ask(
            "session.reprint_certificate",
            seconds,
            receipt=receipt,
        )
        return result

    async def begin_document(
        self,
        *,
        paper: Literal["a4", "a5", "card"] = "a4",
        tone: Literal["colour", "grey", "black_white"] = "colour",
        sides: Literal[1, 2] = 1,
        seconds: float = DEFAULT_SECONDS,
    ) -> Result:
        """Begin to scan a document, in place of the one before, and turn the document camera on."""
        result: Result = await self._ask(
            "session.begin_document",
            seconds,
            paper=paper,
            tone=tone,
            sides=sides,
        )
        return result

    async def add_page(
        self,
        *,
        retake: int | None = None,
        seconds: float = DEFAULT_SECONDS,
    ) -> PageResult:
        """Scan what lies before the document camera as the next page, or again as page retake: found, flattened, judged
        and turned upright, within 5 s; session.progress tells the steps."""
        result: PageResult = await self._ask(
            "session.add_page",
            seconds,
            retake=retake,
        )
        return result

    async def finish_document(
        self,
        *,
        most_bytes: int = 4194304,
        seconds: float = DEFAULT_SECONDS,
    ) -> DocumentResult:
        """Make the document's PDF, within 20 s; session.progress tells the steps."""
        result: DocumentResult = await self._ask(
            "session.finish_document",
            seconds,
            most_bytes=most_bytes,
        )
        return result

    async def discard_document(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> Result:
        """Wipe the document, its pages and its PDF; without a document it does nothing."""
        result: Result = await self._ask(
            "session.discard_document",
            seconds,
        )
        return result

    async def close(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> Nothing:
        """End the session; the answer comes when everything it held is wiped."""
        result: Nothing = await self._ask(
            "session.close",
            seconds,
        )
        return result

    async def preview_open(
        self,
        *,
        camera: Literal["face", "document"] = "face",
        seconds: float = DEFAULT_SECONDS,
    ) -> PreviewOpened:
        """A one-use token for the preview socket and one camera, good for 10 s: connect, send it with a newline, and
        read frames, each a 4-byte big-endian length and a JPEG."""
        result: PreviewOpened = await self._ask(
            "preview.open",
            seconds,
            camera=camera,
        )
        return result

    async def preview_page(
        self,
        *,
        page: int,
        seconds: float = DEFAULT_SECONDS,
    ) -> PreviewOpened:
        """A one-use token for the preview socket and one page of the document: connect, send it as for preview.open,
        read one frame, at most 1,024 pixels wide, and the end."""
        result: PreviewOpened = await self._ask(
            "preview.page",
            seconds,
            page=page,
        )
        return result

    async def application_begin(
        self,
        *,
        matter: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> ApplicationBegun:
        """Begin an application of the verified citizen, in place of the one before: the receipt number, to be shown at
        once, and the matter as it stays for this application, whatever catalogue comes."""
        result: ApplicationBegun = await self._ask(
            "application.begin",
            seconds,
            matter=matter,
        )
        return result

    async def application_form(
        self,
        *,
        values: dict[str, Any],
        seconds: float = DEFAULT_SECONDS,
    ) -> ApplicationForm:
        """Add values to the form."""
        result: ApplicationForm = await self._ask(
            "application.form",
            seconds,
            values=values,
        )
        return result

    async def application_material(
        self,
        *,
        material: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> Result:
        """Take the document of session.finish_document as this material, in place of the one before: at most 8 MiB, all
        together 20 MiB."""
        result: Result = await self._ask(
            "application.material",
            seconds,
            material=material,
        )
        return result

    async def application_check(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> ApplicationChecked:
        """What is still missing: fields, materials, the fee."""
        result: ApplicationChecked = await self._ask(
            "application.check",
            seconds,
        )
        return result

    async def application_file(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> ApplicationFiled:
        """File the application; application.progress tells how much the platform has."""
        result: ApplicationFiled = await self._ask(
            "application.file",
            seconds,
        )
        return result

    async def progress_mine(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> ProgressResult:
        """Where every receipt of the verified citizen stands, newest first."""
        result: ProgressResult = await self._ask(
            "progress.mine",
            seconds,
        )
        return result

    async def payment_begin(
        self,
        *,
        method: Literal["unionpay_card", "unionpay_qr", "ecny_qr"],
        amount_fen: int,
        purpose: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentShown:
        """Open an order for the fee of the session's application, before it is filed; for a QR order qr is what the
        citizen scans."""
        result: PaymentShown = await self._ask(
            "payment.begin",
            seconds,
            method=method,
            amount_fen=amount_fen,
            purpose=purpose,
        )
        return result

    async def payment_card(
        self,
        *,
        order: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentShown:
        """Charge the order to a bank card: session.guidance asks for card and PIN and to take the card, payment.key
        tells each key."""
        result: PaymentShown = await self._ask(
            "payment.card",
            seconds,
            order=order,
        )
        return result

    async def payment_await(
        self,
        *,
        order: str,
        seconds: float = 30.0,
    ) -> PaymentShown:
        """Wait for the order's end; pending with payment.awaiting when it takes longer: call again."""
        result: PaymentShown = await self._ask(
            "payment.await",
            seconds + DEFAULT_SECONDS,
            order=order,
            seconds=seconds,
        )
        return result

    async def payment_cancel(
        self,
        *,
        order: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentShown:
        """End the order, open or paid; what was paid goes back."""
        result: PaymentShown = await self._ask(
            "payment.cancel",
            seconds,
            order=order,
        )
        return result

    async def payment_receipt(
        self,
        *,
        order: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> PaymentSlip:
        """Print the slip of the order as it stands: paid, given back, or on its way back."""
        result: PaymentSlip = await self._ask(
            "payment.receipt",
            seconds,
            order=order,
        )
        return result

    async def hotline_begin(
        self,
        *,
        seconds: float = DEFAULT_SECONDS,
    ) -> RequestBegun:
        """Begin a request, in place of the one before: its receipt number, to be shown at once; asked for before
        anything is registered it says so."""
        result: RequestBegun = await self._ask(
            "hotline.begin",
            seconds,
        )
        return result

    async def hotline_attach(
        self,
        *,
        attachment: int,
        seconds: float = DEFAULT_SECONDS,
    ) -> AttachmentTaken:
        """Take the document of session.finish_document as an attachment, in place of the one of this number before: at
        most 5, all together 20 MiB."""
        result: AttachmentTaken = await self._ask(
            "hotline.attach",
            seconds,
            attachment=attachment,
        )
        return result

    async def hotline_register(
        self,
        *,
        category: Literal[
            "consultation", "complaint", "suggestion", "help", "report", "police_non_emergency", "emergency"
        ],
        text: str,
        district: str,
        anonymous: bool,
        telephone: str | None = None,
        scans: tuple[int, ...] = (),
        no_danger: bool = False,
        seconds: float = DEFAULT_SECONDS,
    ) -> RequestRegistered:
        """Register the request that was begun."""
        result: RequestRegistered = await self._ask(
            "hotline.register",
            seconds,
            category=category,
            text=text,
            district=district,
            anonymous=anonymous,
            telephone=telephone,
            scans=scans,
            no_danger=no_danger,
        )
        return result

    async def hotline_standing(
        self,
        *,
        receipt: str,
        seconds: float = DEFAULT_SECONDS,
    ) -> RequestShown:
        """How a request stands."""
        result: RequestShown = await self._ask(
            "hotline.standing",
            seconds,
            receipt=receipt,
        )
        return result

    async def hotline_rate(
        self,
        *,
        receipt: str,
        verdict: Literal["satisfied", "neutral", "unsatisfied"],
        text: str = "",
        seconds: float = DEFAULT_SECONDS,
    ) -> RequestShown:
        """Rate an answered request; unsatisfied opens it again (hotline.reopened)."""
        result: RequestShown = await self._ask(
            "hotline.rate",
            seconds,
            receipt=receipt,
            verdict=verdict,
            text=text,
        )
        return result

    async def sharing_query(
        self,
        *,
        resource: str,
        purpose: str,
        parameters: Mapping[str, Any] = {},
        seconds: float = DEFAULT_SECONDS,
    ) -> Shared:
        """Ask a resource once."""
        result: Shared = await self._ask(
            "sharing.query",
            seconds,
            resource=resource,
            purpose=purpose,
            parameters=parameters,
        )
        return result

    async def sharing_call(
        self,
        *,
        resource: str,
        purpose: str,
        parameters: Mapping[str, Any] = {},
        seconds: float = DEFAULT_SECONDS,
    ) -> Shared:
        """Call a resource that checks something, as sharing.query otherwise."""
        result: Shared = await self._ask(
            "sharing.call",
            seconds,
            resource=resource,
            purpose=purpose,
            parameters=parameters,
        )
        return result
