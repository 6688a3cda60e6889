"""In front of the SIP library: sees every message and connection first."""
