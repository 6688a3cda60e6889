"""What is known of each call, kept in Redis."""
