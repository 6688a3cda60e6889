"""Which message gets as far as the SIP library, and with which body: the rules. Pure."""
