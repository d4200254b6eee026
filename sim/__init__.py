"""The rig: the other half of every conversation. Nothing in the product imports it."""
