"""Measuring the face check on pictures of many people (T9): used by `govterm face`, never by the daemon."""
