"""The command line: each command parses, calls one story, and hands what it returns to ui."""
