"""Fingerprint sensor (ZFM/R30x)."""
