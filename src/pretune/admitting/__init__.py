"""Proves an admission's lower bound over all subsets again, from its file: plain NumPy, never a solver."""
