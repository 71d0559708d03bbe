"""From --data to raw records: sources are found, files of every kind are read, each record has its origin."""
