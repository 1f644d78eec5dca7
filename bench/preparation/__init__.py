"""`bench prepare`: what a dataset holds, which gaps it has, and what is odd in it."""
