"""What made the built-in model: text from a seeded grammar, tokenizer, weights. Not part of the installed package."""
