"""One declarative file per model family; llm_installer.planning.registry reads them by path."""
