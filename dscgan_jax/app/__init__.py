"""What each mode of the program does."""
