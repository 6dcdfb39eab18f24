"""The studies. They run from the checkout, with the checkout's own library: also in a job, to which it is shipped."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "ssl"))
