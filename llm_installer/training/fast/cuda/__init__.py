"""What is equal and faster on an NVIDIA GPU."""
