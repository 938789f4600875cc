"""The commands, one module each. Everything heavy is imported within them."""
