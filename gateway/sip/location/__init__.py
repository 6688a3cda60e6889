"""Locating SIP servers (RFC 3263): from names to addresses, and the next one when one fails."""
