"""One search of a method's settings: its space, its law, its ledger and its trials."""
