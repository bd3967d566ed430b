"""The tables of the notebooks, a module for each notebook and a function for each table.

A function takes frames and returns the frame that is shown, together with the facts that it shows
where claims hang on it. It reads the paper's printed tables and nothing else: no file, no network,
no clock.
"""
