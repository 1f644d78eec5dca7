"""`bench tune`: carry searches out for many methods, merge them, and say what they found."""
