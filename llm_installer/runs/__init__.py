"""A run as its user knows it: listed, compared, resumed, reported."""
