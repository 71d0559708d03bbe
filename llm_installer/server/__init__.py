"""A model directory as a service: the base and every run of it, for programs and for people."""
