"""Base weights with an adapter on a device, for training, chat and evaluation."""
