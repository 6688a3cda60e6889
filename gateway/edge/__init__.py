"""The SIP proxy in front of all workers: Kamailio, with a configuration generated for it."""
