"""Studies of many runs: planned, carried out, watched, merged and cleaned up."""
