"""From measured figures to a scenario file: what is written, and how its layout is kept. Needs no PyTorch."""
