"""SIP, SDP and RTP figures as values: no library, no I/O."""
