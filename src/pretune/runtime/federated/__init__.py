"""The plan carried out by separate processes: a server, and devices on long-lived TLS streams.

frames.py     what goes over a stream         keys.py     CA, certificates, device keys, one-time tokens
messages.py   orders and answers, checked     hub.py      the server's end of the streams
engine.py     what a device does in a round   stream.py   a device's end of its stream
crew.py       the server's side of a round    measured.py what was measured, round by round
actuators.py  clock and power of a device     meter.py    the energy counter of a device
config.py     the two configuration files     loopback.py server and devices in one process
"""
