"""``python -m modernpubmed`` is the command line, also under ``torchrun -m``."""

import sys

from modernpubmed.cli import main

sys.exit(main())
