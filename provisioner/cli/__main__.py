"""`python -m provisioner.cli`: the command line without the installed script."""

from __future__ import annotations

import sys

from provisioner.cli import main

sys.exit(main())
