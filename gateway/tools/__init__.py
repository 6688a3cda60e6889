"""Tools of the user's own that the agent may call: HTTP webhooks and Python plugins."""
