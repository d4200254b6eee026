"""ID-card reader (SDT/SAM-V)."""
