"""Large fleets: the same plans with few passes over the devices.

crew    a fleet cut into parts that threads work on         sample   a few devices that stand for many
newton  the optimum at fixed rounds by Newton's method      whole    whole batches by one threshold
search  rounds on samples, prices and plan on the fleet
"""
