"""One connection: the socket that can misbehave, the way out past the faults, the record of what was seen."""
