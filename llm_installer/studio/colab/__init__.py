"""Training on a machine that is not ours: the wheel it gets, the notebook, and what comes back."""
