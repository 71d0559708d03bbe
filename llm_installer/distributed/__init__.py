"""Several processes: launched, agreeing with each other, sharing one base."""
