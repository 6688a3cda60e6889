"""What the agent does in a response."""
