"""The reference platform: the other end of the sealed line."""
