"""The method: data, losses, signals, networks, training and the store of runs.

Reads nothing of the paper.
"""
