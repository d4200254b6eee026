"""An application that a citizen is filling in; it lives in the session and dies with it (rule 1, T8)."""

from dataclasses import dataclass

from devices.personal import PersonalBytes
from runtime.messages.matters import Matter


@dataclass(slots=True, eq=False)
class Draft:
    """A begun application: its number, the matter as it was when it began (T17), and the form as JSON.

    `doubtful` is the idempotency key of a filing of which nobody knows yet whether the platform has it.
    """

    receipt: str
    catalogue_version: int
    matter: Matter
    form: PersonalBytes | None = None
    doubtful: bytes | None = None

    def keep_form(self, form: bytes) -> None:
        """Hold the form, wiping the one before."""
        self.wipe()
        self.form = PersonalBytes(form)

    def written(self) -> bytes:
        """Return the form as JSON, an empty one before anything was filled in."""
        if self.form is None:
            return b"{}"
        with self.form.view() as form:
            return bytes(form)

    def wipe(self) -> None:
        """Overwrite the form."""
        if self.form is not None:
            self.form.wipe()
            self.form = None
