"""What the voice model's side of a call is made of, whatever the model; pure."""
