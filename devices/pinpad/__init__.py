"""Encrypting PIN pad (SZZT)."""
