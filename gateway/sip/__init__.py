"""The SIP user agent. pjsua2 is imported in this folder alone, and no object of it leaves."""
