"""A table, or many, as one HTML page that needs nothing else."""
