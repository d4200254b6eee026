"""`python -m runtime --config FILE`: the daemon, see `runtime.process`."""

import sys
from typing import Any


def run() -> int:
    """Start the daemon without rich, which structlog would import for a console it does not write to (0.1 s, 5 MiB)."""
    modules: dict[str, Any] = sys.modules
    modules["rich"] = None
    from runtime.process import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
