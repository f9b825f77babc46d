"""``python -m ne_basicsr``, the same program as ``basicsr`` and ``ne-basicsr``."""

import sys

from ne_basicsr.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
