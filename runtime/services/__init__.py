"""Business services, one module each, all through the typed messages of `runtime.messages`."""
