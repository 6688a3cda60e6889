"""One call, with no idea of SIP or of the voice model's protocol."""
