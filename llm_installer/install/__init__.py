"""Model directories: made, listed, renewed, removed, diagnosed. Importing this imports no torch and no hub client."""

from llm_installer.install.doctor import Check, doctor
from llm_installer.install.installed import Installed, list_models, remove, update
from llm_installer.install.installer import install

__all__ = ["Check", "Installed", "doctor", "install", "list_models", "remove", "update"]
