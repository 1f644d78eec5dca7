"""What a method costs: parameters, MACs, time and memory, and the tables of these."""
