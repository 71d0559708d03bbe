"""Text in, numbers out: sources, readers, formats, stores, splitting, encoding, batches."""
