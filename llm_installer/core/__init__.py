"""What is: plain types and the readers that fill them. Imports no torch."""
