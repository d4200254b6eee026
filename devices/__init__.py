"""Peripherals: a sans-IO protocol and an async driver for each kind."""
