"""`python -m tap_posthog ...` is `tap-posthog ...`."""

import os
import sys

from tap_posthog import program

os.execv(program(), [program(), *sys.argv[1:]])
