"""The local API: JSON-RPC 2.0, one JSON text a line, on a Unix socket."""
