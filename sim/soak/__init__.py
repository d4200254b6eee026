"""Terminal and platform under faults for as long as one likes, counted by somebody else: `govterm soak`."""
