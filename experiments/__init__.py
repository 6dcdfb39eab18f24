"""The studies. They run from a checkout and use the library in it.

`ray job submit --working-dir .` ships a checkout to a machine where pixelglobal may not be installed, or in another
version. So the source folder beside this one is put on the path.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ssl"))
