"""Where this process lives: addresses, ports, keys and limits."""
