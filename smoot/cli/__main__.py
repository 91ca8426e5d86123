"""``python -m smoot.cli`` is the command ``smoot``."""

import sys

from smoot.cli import main

sys.exit(main())
