"""Using a model: generation, chat, and the comparison of base and tuned."""
