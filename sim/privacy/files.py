"""Searches every file that any process wrote, with planted ones beside them that must be found."""

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from sim.privacy import broker, planted
from sim.privacy.finder import Finder
from sim.privacy.report import Files, Store
from sim.scan import contents

_ITS_OWN = ("platform.db", "paper")
"""What the rig's platform and printer keep of citizens: the other side of the line, and paper in the citizen's hand."""


def search_files(places: Callable[[], list[Path]], rig: Path, finder: Finder, *, plant: bool) -> Files:
    """Search whatever was written, with files beside it that must be found: in three encodings, packed, and shared.

    In the directory `rig` what belongs to the other side is passed over.

    With `plant` a file is written that nobody knows of, and that must be found as a leak.
    """
    text = planted.REQUEST
    controls = {
        Path("/var/tmp/control.hex"): text.encode("gb18030").hex().encode(),  # noqa: S108
        Path("/dev/shm/control.shared"): text.encode("utf-16-le"),  # noqa: S108
        Path("/etc/control.gzip"): gzip.compress(text.encode()),
    }
    for path, content in controls.items():
        path.write_bytes(content)
    if plant:
        Path("/var/tmp/planted").write_text(text, encoding="utf-8")  # noqa: S108
    found: set[str] = set()
    store = Store(0, 0, control_found=False)
    searched = size = 0
    for path in (one for place in places() for one in sorted(place.rglob("*"))):
        is_its_own = any(above == rig.name and one.startswith(_ITS_OWN) for above, one in pairwise(path.parts))
        if path.is_symlink() or not path.is_file() or is_its_own:
            continue
        data = path.read_bytes()
        searched, size = searched + 1, size + len(data)
        hits = [
            (what, f"{what}, {form}, in {place} at {at}")
            for place, content in contents(data, str(path))
            for at, what, form in finder.find(content)
        ]
        if path.name == broker.STORE:
            control_found = any(what == planted.CONTROL for what, _ in hits)
            store = Store(len(data), data.count(broker.SAID_BY_TERMINAL), control_found)
            hits = [(what, told) for what, told in hits if what != planted.CONTROL]
        found |= {told for _, told in hits}
    of_control = {name for name in found if "/control." in name}
    controls_found = sum(any(f"/{path.name}" in name for name in of_control) for path in controls)
    leaks = sorted(found - of_control)
    return Files(searched, round(size / 2**20, 1), leaks, len(controls), controls_found, store)
