"""Environment unit (Modbus RTU)."""
