"""One run: from its specification to a finished run folder."""
