"""What is measured on networks and on results: statistics, latency, alignment, damaged images,
figures.
"""
