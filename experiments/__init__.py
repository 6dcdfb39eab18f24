"""The studies. They run from a checkout and use the library in it.

`ray job submit --working-dir .` ships a checkout to a machine where pixelglobal may not be installed, or in another
version. So the source folder beside this one is put on the path.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent  # of this package, as the library is told of it
sys.path.insert(0, str(FOLDER.parent / "ssl"))
