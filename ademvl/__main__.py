"""`python -m ademvl` is the same as `ademvl`."""

import sys

from ademvl.cli import main

sys.exit(main())
