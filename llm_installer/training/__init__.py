"""Where torch lives: the model, the loop, checkpoints and what watches them."""
