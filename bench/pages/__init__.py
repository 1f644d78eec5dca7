"""The report of a study as one page: its chapters, facts and parts."""
