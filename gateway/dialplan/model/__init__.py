"""What people write in a dialplan, as typed values."""
