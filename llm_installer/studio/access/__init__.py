"""Who may do what in a studio that others reach: accounts, sessions, keys, rights, limits, and the audit log."""
