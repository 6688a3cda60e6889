"""Call control: a pure state machine, events in, actions out."""
