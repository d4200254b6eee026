"""Synthetic citizens one after the other at real processes, measured and counted: `govterm soak citizens`."""
