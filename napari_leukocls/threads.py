"""How threads wait for each other; set before torch is loaded, so no torch here."""

from __future__ import annotations

import os


def share_processor() -> None:
    """Let waiting threads sleep soon, so that long work does not slow other programs; call it before torch is loaded.

    Threads of GNU's OpenMP wait for each other in a busy loop. Where other programs use the same cores, the work
    that they wait for does not run meanwhile. A tenth of the usual rounds of that loop costs a tenth of the time on
    free cores, and saves more than half of it on busy ones. What the user has set in the environment is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
