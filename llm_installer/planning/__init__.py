"""What shall be: pure functions and tables. No torch, no disk, no clock."""
