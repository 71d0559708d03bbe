"""From what --data names to raw records: sources found, files of every kind read, each record with its place."""
