"""Steering a run through changing conditions, round by round; no planner and no PyTorch here.

kernel    one round at a price of time, compiled     columns   the fleet and the conditions of a round
moves     what is asked, its bounds, what it cost    guard     a round that fits what is left
forecast  what rounds to come may meet (scenes: compiled)  outlook   what is known before a run
standing  where a run is                             steering  what is to be done next
rules     what may be asked for, and the hand-overs  simulate  a run without training, for its criterion
absence   devices that are real and do not answer
noise     the gradients' variances as a run finds them     telling   a steering's lines and words
"""
