"""What a device needs to know of itself for a scenario, measured on this machine: `pretune profile`.

model.py    FLOPs and payload of the model      clock.py   the clock, read while computing
speed.py    seconds a step over batch sizes     energy.py  joules, where a counter can be read
power.py    capacitance from power and clock    entry.py   the device entry with its provenance
profile.py  all of it, one after the other      machine.py which machine and which versions

What can't be measured is None with the reason beside it; nothing is guessed.
"""
