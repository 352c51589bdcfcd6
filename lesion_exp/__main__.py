"""`python -m lesion_exp` is `lesion-exp`."""

import sys

from lesion_exp.cli import main

sys.exit(main())
