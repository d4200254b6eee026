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

    @property
    def verbs(self) -> Verbs:
        """The verbs that set them."""
        return {
            "slow": self.slow,
            "silent": self.silent,
            "double_answer": self.double_answer,
            "broken_seal": self.broken_seal,
            "outage": self.outage,
            "drop_record": self.drop_record,
            "double_record": self.double_record,
            "flip_byte": self.flip_byte,
            "receiptless": self.receiptless,
            "key_life": self.key_life,
            "mend": self.mend,
        }

    def slow(self, seconds: float) -> None:
        """Say everything so much later."""
        if not 0 <= seconds <= 3600:
            raise ValueError("seconds: 0 to 3600")
        self.slow_seconds = float(seconds)

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
