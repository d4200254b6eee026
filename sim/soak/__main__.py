"""`python -m sim.soak`: the command `govterm soak` without the rest of govterm."""

from sim.soak.cli import soak

soak()
