"""Text in, numbers out: sources, readers, formats, splitting, encoding, batches."""
