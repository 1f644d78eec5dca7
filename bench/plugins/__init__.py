"""What plugins there are, what they state of themselves, and how a new one begins."""
