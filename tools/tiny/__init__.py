"""What made the built-in model: text from a seeded grammar, tokenizer, weights."""
