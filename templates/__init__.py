"""The scripts of a model directory, as llm_installer.install.scripts renders them. Holds no code of its own."""
