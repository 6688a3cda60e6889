"""The voice model's side of a call: one agent, its sessions one after another, one WebSocket each."""
