"""A trace of each call for OpenTelemetry."""
