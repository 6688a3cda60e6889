"""Many workers of one machine, and the process that watches them."""
