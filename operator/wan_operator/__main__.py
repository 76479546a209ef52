"""python -m wan_operator"""

import sys

from wan_operator.cli import main

sys.exit(main())
