"""A folder that Ollama makes a model of: a GGUF file, and a Modelfile that says how it was trained to be used."""
