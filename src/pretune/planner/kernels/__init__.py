"""The compiled arithmetic of the planner (Numba). Set NUMBA_DISABLE_JIT=1 to step through it as plain Python.

    scalar   one device (or the server) at a price of time
    fixed    the optimum at fixed rounds: one price of energy, one of time
    priced   what a set of prices proves about any rounds
"""
