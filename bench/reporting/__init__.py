"""Tables, findings and comparisons of a study, from what it stored; never torch."""
