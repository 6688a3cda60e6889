"""What happened to calls, posted to services of the operator: signed, in order of attempts, never in a call's way."""
