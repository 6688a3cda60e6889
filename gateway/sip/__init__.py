"""pjsua2 lives and dies here: no other room imports it, no object of it leaves."""
