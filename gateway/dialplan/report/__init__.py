"""What a plan says, for people: explained, tested, described."""
