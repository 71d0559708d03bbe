"""Serving: the base and every run of a model directory over HTTP, as clients of OpenAI's API know it."""
