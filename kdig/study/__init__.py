"""What a notebook, a profile and a report are: parameters, outputs, cost, the command."""
