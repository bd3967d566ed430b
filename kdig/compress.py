"""`python -m kdig.compress --data my_images --out small/small.onnx`: see `kdig.study.compress`."""

import sys

if __name__ == "__main__":
    from kdig.study.compress import main

    sys.exit(main())
