"""What may be kept of a wire: frames whose personal fields are synthetic (T20, T21)."""
