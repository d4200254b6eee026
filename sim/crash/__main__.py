"""`python -m sim.crash` is `govterm crash-points`."""

import typer

from sim.crash.cli import crash_points

typer.run(crash_points)
