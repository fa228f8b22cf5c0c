"""Flower as the engine of a federation: the only room that imports flwr.

launch.py    SuperLink and SuperNode as processes, with telemetry off
program.py   the tiny Flower app that is shipped to the devices
apps.py      its two ends       inviting.py  a token for each node       messages.py  rounds in Flower's own messages
simulate.py  the same app in Flower's simulation
"""
