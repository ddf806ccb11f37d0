"""The agent: what edgepack runs on a board. Standard library only, Python 3.9 or newer, nothing of edgepack."""
