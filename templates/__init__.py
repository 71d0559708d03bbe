"""What is rendered into a model directory. Holds no code of its own; llm_installer.install.drop reads it."""
