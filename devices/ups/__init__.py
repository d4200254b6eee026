"""Uninterruptible power supply: Megatec (Q1, QS) on a serial line, or any through a NUT server."""
