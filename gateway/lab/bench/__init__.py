"""What a full worker costs: CPU, memory and latency, beside the least that the same calls can cost."""
