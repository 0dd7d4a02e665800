"""Two runs of pytest side by side: one that only computes, at the lowest priority, while the other mostly waits.

    python -m tests.beside -m thorough -n 2 --while -m "system and not thorough" -n 2

The first part may take only the time that the second leaves over; its report is printed once both are over. Exit 1 when one failed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.system.line import die_with_parent

_LOWEST = 19


def _stand_back() -> None:
    """In the child, which has a session of its own: where the scheduler groups by session, a process's own priority says little."""
    die_with_parent()
    os.nice(_LOWEST)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_LOWEST))


def main(words: Sequence[str]) -> int:
    split = words.index("--while")
    pytest = [sys.executable, "-m", "pytest", "-q"]
    # One cache folder is enough for both.
    behind = [*pytest, "-p", "no:cacheprovider", *words[:split]]
    with tempfile.TemporaryFile() as report:
        child = subprocess.Popen(behind, stdout=report, stderr=report, start_new_session=True, preexec_fn=_stand_back)
        try:
            front = subprocess.run([*pytest, *words[split + 1 :]], check=False).returncode
            status = child.wait()
        finally:
            child.kill()
            child.wait()
        report.seek(0)
        print(f"\nmeanwhile: pytest {' '.join(words[:split])}", report.read().decode(errors="replace"), sep="\n", flush=True)
    return int(front != 0 or status != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
