"""What is sent instead of a whole file: the smallest of what can be made of it and of what the board has already."""
