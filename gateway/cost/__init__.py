"""What a call costs: prices, caps in money, and until when a model is offered."""
