"""Keep triton out of a process whose OpenGL is drawn by Mesa with LLVM.

Triton, which torch brings along on Linux and imports when torchvision is, carries an LLVM of its own. Loaded
into a process that has Mesa's (software OpenGL, and the drivers of AMD cards), it ends the process with a
segmentation fault. Nothing here compiles with triton, and torch does without it when it cannot be imported.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

log = logging.getLogger(__name__)


def keep_triton_out() -> bool:
    """Make ``import triton`` an ImportError where it would end the process; return whether it was needed."""
    if sys.platform != "linux" or "triton" in sys.modules:
        return False
    try:
        loaded = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    if "libLLVM" not in loaded:
        return False
    # None in sys.modules is Python's own way to say that a module must not be imported.
    sys.modules["triton"] = None  # type: ignore[assignment]
    log.info("triton is left out: it cannot live beside Mesa's LLVM.")
    return True
