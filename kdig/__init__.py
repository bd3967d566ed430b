"""Knowledge distillation with integrated gradients, measured against arXiv 2506.14440.

Importing the package itself is light; torch is loaded by the modules that need it.
"""

__version__ = "0.1.0"


class KdigError(Exception):
    """A mistake that the reader can mend.

    Its text is one line: what is wrong and what would be right.
    """
