"""What computing and communicating cost: time, energy, and nothing else."""
