"""What the reference platform says of terminals' staff, signed, and holds of their audit logs (H6, H7, H10)."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from runtime.audit_chain import AuditError, Seal
from runtime.messages import CATALOGUE, from_payload
from runtime.messages.audit import AuditSeal, RemoteWindow, StaffGrant, StaffRevocation, word_content
from sim.platform.store import Store
from sim.wire import Verbs
from transport import sm2
from transport.payload import Payload

_SEAL = CATALOGUE[AuditSeal]

W = TypeVar("W", StaffGrant, RemoteWindow)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Grants, windows and seals; `order` gives a terminal a command."""

    store: Store
    signing: sm2.PrivateKey
    terminals: Iterable[str]
    now: Callable[[], float]
    order: Callable[[str, msgspec.Struct], None]

    @property
    def verbs(self) -> Verbs:
        """The verbs of the rig's control socket."""
        return {
            "grant_staff": self.grant_staff,
            "open_window": self.open_window,
            "revoke_staff": self.revoke_staff,
            "audit_seals": self.audit_seals,
        }

    def grant_staff(
        self,
        account: str,
        role: Literal["operator", "tester"] = "operator",
        *,
        remote: bool = False,
        seconds: int = 86_400,
        begins_in_seconds: int = 0,
    ) -> str:
        """Grant an account a role at every terminal and return the grant's id."""
        begins = int(self.now()) + begins_in_seconds
        grant = StaffGrant(f"g-{secrets.token_hex(4)}", account, role, remote, begins, begins + seconds, b"")
        return self._signed(grant)

    def open_window(
        self, accounts: list[str], bastion: str = "bastion-1", begins_in_seconds: int = 0, seconds: int = 3_600
    ) -> str:
        """Announce a window of remote maintenance to every terminal and return its id."""
        begins = int(self.now()) + begins_in_seconds
        window = RemoteWindow(f"w-{secrets.token_hex(4)}", tuple(accounts), bastion, begins, begins + seconds, b"")
        return self._signed(window)

    def revoke_staff(self, name: str) -> None:
        """End a grant or a window."""
        for terminal in self.terminals:
            self.order(terminal, StaffRevocation(name))

    def audit_seals(self, terminal: str) -> list[dict[str, object]]:
        """Return the seals of a terminal's audit log, each as a line of what `govterm audit verify --seals` takes."""
        statement = "SELECT body FROM records WHERE terminal = ? AND schema = ? ORDER BY id"
        bodies = self.store.database.execute(statement, (terminal, _SEAL.schema)).fetchall()
        told = [from_payload(Payload(_SEAL.schema, _SEAL.version, False, body), AuditSeal) for (body,) in bodies]
        return [msgspec.to_builtins(seal_of(terminal, one)) for one in told]

    def complaint(self, terminal: str, told: AuditSeal, identity: sm2.PublicKey) -> str | None:
        """Return the code of what is wrong with a seal that comes after those that are held, None if nothing.

        `audit.bad_seal`: the terminal did not sign it. `audit.went_back`: it is over no more lines than an earlier one;
        the same seal told again, as by a journal that was made anew, is none.
        """
        seal = seal_of(terminal, told)
        try:
            seal.verify(identity)
        except AuditError as error:
            return error.code
        held = {(one["lines"], one["head"]) for one in self.audit_seals(terminal)}
        is_more = all(seal.lines > int(str(lines)) for lines, _ in held)
        return None if is_more or (seal.lines, seal.head) in held else "audit.went_back"

    def _signed(self, word: W) -> str:
        for terminal in self.terminals:
            signature = self.signing.sign(word_content(terminal, word))
            self.order(terminal, msgspec.structs.replace(word, signature=signature))
        return word.id


def seal_of(terminal: str, told: AuditSeal) -> Seal:
    """Return a terminal's seal as its audit log has it."""
    return Seal(terminal, told.at, told.clock, told.lines, told.head.hex(), told.signature.hex())
