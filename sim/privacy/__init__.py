"""A citizen with planted values serves as the dye: whatever of them is found outside a session is a leak (T20, T22)."""
