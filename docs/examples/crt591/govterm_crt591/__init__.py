"""A card reader of another maker for govterm: the CRT-591, in a distribution of its own."""
