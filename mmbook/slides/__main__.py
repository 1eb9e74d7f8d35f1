"""`python -m mmbook.slides`."""

import sys

from mmbook.slides import main

sys.exit(main())
