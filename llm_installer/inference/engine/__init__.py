"""Many requests at once on one base and all its adapters: a batch that rows join and leave between steps."""
