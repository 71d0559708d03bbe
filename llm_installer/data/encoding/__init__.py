"""Conversations to tokens: chat templates, what is learned, pictures, cutting."""
