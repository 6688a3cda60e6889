"""Which message gets as far as the SIP library: the rules."""
