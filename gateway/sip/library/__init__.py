"""pjsua2: its endpoint, transports and configuration."""
