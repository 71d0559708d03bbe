"""Programs for those who work on this project; none of them is installed."""
