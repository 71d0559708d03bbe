"""Examples on disk: read once, kept in Arrow files, found again by content."""
