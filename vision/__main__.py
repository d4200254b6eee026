"""The vision process: `python -m vision DESCRIPTOR`, started by `vision.process` with one end of a socket pair."""

import asyncio
import logging
import socket
import sys
from collections import Counter

from vision.crashes import KindHandler, harmless, tell_by_kind
from vision.guard import die_with_parent, refuse_writes
from vision.log_priority import prefixes


def main() -> None:
    """Guard the process before any heavy library is imported, then serve until the daemon is gone."""
    die_with_parent()
    tell_by_kind()
    logging.captureWarnings(capture=True)
    logging.getLogger().addHandler(KindHandler(logging.WARNING))
    # structlog would import rich for a console that nobody reads here: 130 ms and 7 MiB.
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    prefix, render = prefixes(sys.stderr), structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            lambda _, __, event: {key: harmless(value) for key, value in event.items()},
            lambda logger, name, event: f"{prefix.get(event['level'], '')}{render(logger, name, event)!s}",
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    log = structlog.get_logger("vision")
    refused: Counter[str] = Counter()

    def report(event: str) -> None:
        kind = "egress_refused" if event.startswith("socket.") else "write_refused"
        refused.update((kind, event))
        if refused[event] == 1:
            log.error(kind, operation=event)

    refuse_writes(report)

    from vision.worker import serve

    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), egress_refused=lambda: refused["egress_refused"]))


if __name__ == "__main__":
    main()
