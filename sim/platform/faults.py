"""What can be made to go wrong at the reference platform, by verbs of the rig's control socket."""

from dataclasses import dataclass

from sim.wire import Verbs


@dataclass(slots=True)
class Faults:
    """The faults set at the moment; none at first."""

    slow_seconds: float = 0.0
    is_silent: bool = False
    is_double: bool = False
    is_seal_broken: bool = False
    is_out: bool = False
    records_to_drop: int = 0
    records_to_double: int = 0
    records_to_flip: int = 0
    is_receiptless: bool = False
    is_revoked: bool = False
    key_seconds: int = 24 * 3600
    catalogue: str | None = None
    sharing: str | None = None
    sharing_busy: int = 0
    clock_seconds: float = 0.0
    grant_seconds: int = 30 * 24 * 3600
    is_receipt_wrong: bool = False
    bank_refusal: str | None = None
    bank_hold: str | None = None
    is_amount_wrong: bool = False
    is_cut_after_charge: bool = False

    @property
    def verbs(self) -> Verbs:
        """The verbs that set them."""
        return {
            "slow": self.slow,
            "clock": self.clock,
            "silent": self.silent,
            "double_answer": self.double_answer,
            "broken_seal": self.broken_seal,
            "outage": self.outage,
            "drop_record": self.drop_record,
            "double_record": self.double_record,
            "flip_byte": self.flip_byte,
            "receiptless": self.receiptless,
            "key_life": self.key_life,
            "spoil_catalogue": self.spoil_catalogue,
            "spoil_sharing": self.spoil_sharing,
            "busy_sharing": self.busy_sharing,
            "grant_life": self.grant_life,
            "wrong_receipt": self.wrong_receipt,
            "refuse_charges": self.refuse_charges,
            "hold_charges": self.hold_charges,
            "wrong_amount": self.wrong_amount,
            "cut_after_charge": self.cut_after_charge,
            "mend": self.mend,
        }

    def slow(self, seconds: float) -> None:
        """Say everything so much later."""
        if not 0 <= seconds <= 3600:
            raise ValueError("seconds: 0 to 3600")
        self.slow_seconds = float(seconds)

    def clock(self, seconds: float) -> None:
        """Let the services' clock be wrong by so much; the line's own is right."""
        if not abs(seconds) <= 10 * 366 * 86_400:
            raise ValueError("seconds: ten years at most")
        self.clock_seconds = float(seconds)

    def silent(self, *, on: bool = True) -> None:
        """Take calls and do what they ask, but do not answer them."""
        self.is_silent = on

    def double_answer(self, *, on: bool = True) -> None:
        """Answer each call twice."""
        self.is_double = on

    def broken_seal(self, *, on: bool = True) -> None:
        """Issue certificates whose seal does not verify."""
        self.is_seal_broken = on

    def outage(self, *, on: bool = True) -> None:
        """Take nothing and say nothing, as if the platform were away from its broker."""
        self.is_out = on

    def drop_record(self, count: int = 1) -> None:
        """Receipt the next records without storing them: a sabotage that a count must find."""
        self.records_to_drop = count

    def double_record(self, count: int = 1) -> None:
        """Store the next records twice: a sabotage that a count must find."""
        self.records_to_double = count

    def flip_byte(self, count: int = 1) -> None:
        """Change a byte of the next trial records before storing them: a sabotage that a count must find."""
        self.records_to_flip = count

    def receiptless(self, *, on: bool = True) -> None:
        """Store records, but do not say so."""
        self.is_receiptless = on

    def key_life(self, seconds: int) -> None:
        """Let the keys granted from now on last so long."""
        if not 1 <= seconds <= 24 * 3600:
            raise ValueError("seconds: 1 to 86400")
        self.key_seconds = seconds

    def spoil_catalogue(self, how: str = "signature") -> None:
        """Issue a catalogue that no terminal may switch to."""
        if how not in ("signature", "digest", "json", "schema", "device", "older"):
            raise ValueError("how: signature, digest, json, schema, device or older")
        self.catalogue = how

    def spoil_sharing(self, how: str = "damage") -> None:
        """Share what no terminal may take: damaged, stale, of wrong count or rows, an older version, another person's.

        `grants` are signed for another terminal; a `statement` counts too much.
        """
        if how not in ("damage", "stale", "count", "rows", "older", "person", "grants", "statement"):
            raise ValueError("how: damage, stale, count, rows, older, person, grants or statement")
        self.sharing = how

    def busy_sharing(self, times: int = 1) -> None:
        """Refuse the next uses of shared information for the moment."""
        self.sharing_busy = times

    def grant_life(self, seconds: int = 60) -> None:
        """Let the grants of shared resources issued from now on last so long."""
        if not 1 <= seconds <= 30 * 24 * 3600:
            raise ValueError("seconds: 1 to 2592000")
        self.grant_seconds = seconds

    def wrong_receipt(self, *, on: bool = True) -> None:
        """Answer a filing as if it were another one's."""
        self.is_receipt_wrong = on

    def refuse_charges(self, code: str = "payment.card_refused") -> None:
        """Let the bank refuse every charge with this code."""
        self.bank_refusal = code

    def hold_charges(self, how: str = "late") -> None:
        """Let the bank keep the outcome of charges to itself until `bank_says`.

        `late`: an order given up meanwhile is closed as not charged, and the bank charges it all the same. `slow`: the
        platform waits for the bank before it says how such an order ended, and then gives it back.
        """
        if how not in ("late", "slow"):
            raise ValueError("how: late or slow")
        self.bank_hold = how

    def wrong_amount(self, *, on: bool = True) -> None:
        """Charge one fen more than the order says."""
        self.is_amount_wrong = on

    def cut_after_charge(self, *, on: bool = True) -> None:
        """Charge, and be away before the answer, as in an outage at the worst moment."""
        self.is_cut_after_charge = on

    def charged(self) -> None:
        """Take note that something was charged: the moment for an outage."""
        if self.is_cut_after_charge:
            self.is_out = self.is_silent = True

    def mend(self) -> None:
        """End all faults."""
        fresh = Faults()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def answers(self) -> int:
        """How many times a call is answered."""
        return 0 if self.is_silent else 2 if self.is_double else 1

    def spoil(self, seal: bytes) -> bytes:
        """Return the seal, or another that does not verify."""
        return seal[:-1] + bytes([seal[-1] ^ 1]) if self.is_seal_broken else seal

    def receipt(self, receipt: str) -> str:
        """Return the receipt number that an answer names."""
        return "A-0000-0000-0" if self.is_receipt_wrong else receipt

    def is_sharing_busy(self) -> bool:
        """Whether the next use is refused for the moment; asking takes one off the count."""
        self.sharing_busy, is_busy = max(0, self.sharing_busy - 1), self.sharing_busy > 0
        return is_busy

    def drops_record(self) -> bool:
        """Whether the next record is receipted without being stored; asking takes one off the count."""
        self.records_to_drop, drops = max(0, self.records_to_drop - 1), self.records_to_drop > 0
        return drops

    def doubles_record(self) -> bool:
        """Whether the next record is stored twice; asking takes one off the count."""
        self.records_to_double, doubles = max(0, self.records_to_double - 1), self.records_to_double > 0
        return doubles

    def flips_byte(self, schema: str) -> bool:
        """Whether this record, if it is a trial, is changed before it is stored; asking takes one off the count."""
        if not (self.records_to_flip and schema.startswith("trial.")):
            return False
        self.records_to_flip -= 1
        return True
