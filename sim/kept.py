"""Where a run keeps what somebody else may count again."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.settings import RigError, RigFiles


@contextmanager
def kept_rig(keep: Path | None) -> Iterator[RigFiles]:
    """Yield a rig's files: in the new or empty `keep`, or in one that goes afterwards; sockets have short names.

    Raises RigError when something is in `keep` already.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise RigError(f"{keep}: something is in it already; name a new directory")
    with tempfile.TemporaryDirectory(prefix="govterm-") as short:
        directory, sockets = Path(short, "kept"), Path(short, "rig")
        if keep is not None:
            directory = keep.absolute()
        sockets.symlink_to(directory)
        yield RigFiles(directory, sockets)
