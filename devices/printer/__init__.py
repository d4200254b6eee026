"""Receipt printer (ESC/POS)."""
