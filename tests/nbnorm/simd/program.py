"""Run all checks at the width of vectors that NBNORM_VECTOR_BYTES asks for; or name what they leave unchecked."""

import sys
from pathlib import Path

from intrinsics import CHECKS, DTYPES, public_intrinsics

for path in sorted(Path(__file__).parent.glob("check_*.py")):
    __import__(path.stem)

if __name__ == "__main__":
    if sys.argv[1:] == ["names"]:
        entered = [name for names in CHECKS.values() for name in names]
        assert len(entered) == len(set(entered)), "checked twice"
        print(*sorted(set(public_intrinsics()) ^ set(entered)))
    else:
        for check in CHECKS:
            for dtype in DTYPES:
                check(dtype)
                print(f"{check.__name__} {dtype.__name__}", flush=True)
