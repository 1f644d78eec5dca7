"""Train one method and predict every condition: stages, batches, optimiser, resuming."""
