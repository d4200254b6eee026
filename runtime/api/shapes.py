"""What the methods of the local API take and give, and what its notifications carry."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from runtime.alarms import AlarmEntry
from runtime.session import Purpose
from runtime.state import Component
from runtime.tickets import Step
from vision.page_report import MOST_BYTES, MOST_PAGES, PaperName, Sides, Tone
from vision.page_report import Step as ScanStep
from vision.verifier import CameraName

SessionId = Annotated[str, Meta(max_length=64, description="What session.open returned.")]
PageNumber = Annotated[int, Meta(ge=1, le=MOST_PAGES, description="A page of the document, the first is 1.")]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, or no result."""


class OfSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session."""

    session: SessionId


class ConsentGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and says what the citizen chose when shown which text."""

    session: SessionId
    agreed: Annotated[bool, Meta(description="False declines, and takes an earlier consent back.")]
    version: Annotated[
        str, Meta(pattern="^[A-Za-z0-9._-]{1,14}$", description="The version of the text that the citizen saw.")
    ]
    purpose: Annotated[Purpose, Meta(description="The biometric that the text is about.")] = "face"


class IdentityWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and says what is compared with the card."""

    session: SessionId
    means: Annotated[Purpose, Meta(description="The face before the camera, or a finger that the card carries.")] = (
        "face"
    )


class AssistanceGiven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and the member of staff who vouches, with the second factor's one-time code."""

    session: SessionId
    staff: Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9._-]{0,31}$", description="The account at the platform.")]
    code: Annotated[str, Meta(pattern="^[0-9]{6}$", description="The code of the moment (RFC 6238).")]


class SessionExtended(msgspec.Struct, frozen=True):
    """For how long the session goes on without another request."""

    seconds: float


class PreviewWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a camera."""

    session: SessionId
    camera: Annotated[CameraName, Meta(description="Which camera: the one that sees the citizen, or the document.")] = (
        "face"
    )


class PageShown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a page of its document."""

    session: SessionId
    page: PageNumber


class DocumentWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and says what is scanned."""

    session: SessionId
    paper: Annotated[PaperName, Meta(description="Its format; of a `card` both sides come on one A4 page.")] = "a4"
    tone: Annotated[Tone, Meta(description="Black and white takes least room.")] = "colour"
    sides: Annotated[Sides, Meta(description="2 when sheets are turned over; a card has 2.")] = 1


class PageWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and the page that is taken again, the next one when left out."""

    session: SessionId
    retake: PageNumber | None = None


class PdfWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session, and how long the PDF may be."""

    session: SessionId
    most_bytes: Annotated[
        int, Meta(ge=10_000, le=MOST_BYTES, description="Its quality is stepped down until it fits.")
    ] = 4 * 2**20


class CertificateWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and a certificate."""

    session: SessionId
    certificate: Annotated[
        str,
        Meta(pattern="^[a-z0-9_]{1,64}$", description="The certificate's name, as in `social_insurance_enrolment`."),
    ]


class ReprintWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names the caller's session and the receipt of a certificate."""

    session: SessionId
    receipt: Annotated[str, Meta(max_length=32, description="The receipt number on the paper, however it is typed.")]


class OfDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a component of `terminal.status` that is supervised."""

    device: Annotated[str, Meta(pattern="^[a-z_-]{1,32}$", description="For instance `idcard`.")]


class DeviceAccepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a device that was refused as swapped, and its identity."""

    device: Annotated[str, Meta(pattern="^[a-z_-]{1,32}$", description="For instance `idcard`.")]
    identity: Annotated[
        str,
        Meta(
            pattern="^[ -~]{1,128}$",
            description="As terminal.status shows it, or the refusal of a call with another one.",
        ),
    ]


class TicketStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an open ticket, and which of its clocks to stop."""

    ticket: Annotated[str, Meta(max_length=64, description="What tickets.list returned.")]
    step: Annotated[
        Step, Meta(description="`answer`: the fault was answered; `on_site`: somebody came; `part`: the part is there.")
    ]


TrialId = Annotated[str, Meta(pattern="^[A-Za-z0-9-]{1,64}$", description="The caller's name of it, to count it by.")]


class TrialRecordWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record that means nothing: its name, the bytes in it (Base64) and their SM3 (Base64)."""

    id: TrialId
    digest: Annotated[bytes, Meta(min_length=32, max_length=32)]
    filler: Annotated[bytes, Meta(max_length=32_768)]
    stream: Annotated[
        Literal["supervision", "telemetry"], Meta(description="A full disk sheds the oldest of `telemetry` first.")
    ] = "supervision"


class TrialCallWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that means nothing: how many random bytes go up and down, and how long the answer may take."""

    id: TrialId
    filler_bytes: Annotated[int, Meta(ge=0, le=MOST_BYTES)] = 0
    answer_bytes: Annotated[int, Meta(ge=0, le=MOST_BYTES)] = 0
    deadline_seconds: Annotated[float, Meta(gt=0, le=120)] = 10.0


class AlarmWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alarm of `alarms.list`."""

    alarm: Annotated[str, Meta(min_length=1, max_length=64)]


class AlarmList(msgspec.Struct, frozen=True):
    """The alarms of this terminal, newest first."""

    alarms: list[AlarmEntry]


class AlarmDraft(msgspec.Struct, frozen=True):
    """A report in plain text, with blanks for the person who sends it."""

    text: str


class TerminalStatus(msgspec.Struct, frozen=True):
    """What the terminal is and how it fares."""

    version: str
    boot_id: str
    rig: bool
    state: dict[str, Component]


class SessionOpened(msgspec.Struct, frozen=True):
    """The new session's id, a secret of this connection."""

    session: str


class PreviewOpened(msgspec.Struct, frozen=True):
    """Where to connect for frames, and the token to send there, ended by a newline."""

    token: str
    socket: str


class TrialRecorded(msgspec.Struct, frozen=True):
    """The record is durable, at this place of its stream."""

    sequence: int


class TrialAnswered(msgspec.Struct, frozen=True):
    """The platform's answer came whole: the SM3 of what went up (Base64), and the round trip."""

    digest: bytes
    seconds: float


class Guidance(msgspec.Struct, frozen=True):
    """Notification `session.guidance`: what the citizen should do now."""

    session: str
    code: str
    text: str


class DocumentProgress(msgspec.Struct, frozen=True):
    """Notification `session.progress`: what is being done to which page, of how many."""

    session: str
    step: ScanStep
    page: int
    pages: int


class Described(msgspec.Struct, frozen=True):
    """The OpenRPC document."""

    openrpc: str
    info: dict[str, str]
    methods: list[Any]
    notifications: list[Any] = msgspec.field(name="x-notifications")
    components: dict[str, Any]
