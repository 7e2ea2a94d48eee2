"""The subcommands of `forkpoint` that need only a server's address."""
