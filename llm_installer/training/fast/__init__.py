"""Training steps that are equal and faster: interface.py is the only way in, and `plan.fast` the only switch."""
