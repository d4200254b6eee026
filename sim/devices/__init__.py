"""Virtual peripherals that speak the real wire protocols."""
