"""Face check, cameras and every native decoder of foreign data, in a process of their own."""
