"""A SIP voice gateway: a phone number for a realtime voice model."""
