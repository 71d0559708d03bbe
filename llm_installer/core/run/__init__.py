"""A run on disk: its record, its progress, its lock. No torch."""
