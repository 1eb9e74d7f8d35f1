"""`python -m mmbook.site`."""

import sys

from mmbook.site import main

sys.exit(main())
