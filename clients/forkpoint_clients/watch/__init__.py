"""What a server does right now, from its /metrics page: `forkpoint watch`."""
