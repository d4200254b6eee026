"""Presentation-attack detection: passive measures, a challenge, an optional network, each reported by itself (T9)."""
