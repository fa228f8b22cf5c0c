"""The compiled arithmetic of the planner (Numba). Set NUMBA_DISABLE_JIT=1 to step through it as plain Python.

scalar   one device (or the server) at a price of time
fleet    one fine-tuning round of all devices at a span
split    how the time is split at given prices of energy
fixed    the optimum at fixed rounds
priced   what a set of prices makes everything cost
rounds   what that proves about any rounds
"""
