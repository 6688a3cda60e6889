"""What happens to a call: files people write."""
