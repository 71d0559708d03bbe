"""What goes to a hub: gathered by an allow-list, searched for what must not leave, sent as one commit, fetched back."""
