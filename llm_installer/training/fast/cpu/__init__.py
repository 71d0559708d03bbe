"""What is equal and faster on a CPU."""
