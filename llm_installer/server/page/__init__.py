"""The chat page: what the browser is given, and the rows it sends back."""
