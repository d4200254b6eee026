"""Bank-card reader (CRT-310 family), and what every reader of bank cards shares."""
