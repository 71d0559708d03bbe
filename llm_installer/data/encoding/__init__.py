"""Conversations to tokens: chat templates, loss masks, images, truncation."""
