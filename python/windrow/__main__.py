"""``python -m windrow``."""

import sys

from windrow.cli import main

sys.exit(main())
