"""Model directories: install, list, update, remove, check. Importing this imports no torch and no hub client."""

from llm_installer.install.doctor import Check, check_machine
from llm_installer.install.installed import Installed, list_models, remove, update
from llm_installer.install.installer import install

__all__ = ["Check", "Installed", "check_machine", "install", "list_models", "remove", "update"]
