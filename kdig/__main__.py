"""`python -m kdig --profile demo` runs a profile's notebooks and writes its report."""

import sys

from kdig.study.reproduce import main

if __name__ == "__main__":
    sys.exit(main())
