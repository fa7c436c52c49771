"""A process that must not outlive its parent.

A parent that is killed with SIGKILL cannot tell its children to end. On Linux the kernel does (``PR_SET_PDEATHSIG``),
however busy the child is. Elsewhere the child has to notice by itself: it holds one end of a pipe or socket whose other
end only the parent has, and reads the end of the stream there.
"""

import ctypes
import os
import signal
import sys

__all__ = ["end_orphaned", "end_with_parent"]

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> bool:
    """Have the kernel kill this process the moment its parent ends; at once if that has happened already.

    The kernel looks at the *thread* that started this process: that thread must live as long as the process shall.
    Processes that this one starts do not inherit it.

    Args:
        parent: The parent's process id, as the parent itself says.

    Returns:
        Whether the kernel does so; False on systems other than Linux, where the process must watch by itself.
    """
    promised = sys.platform == "linux" and ask_kernel()
    if os.getppid() != parent:
        end_orphaned()
    return promised


def ask_kernel() -> bool:
    """``prctl(PR_SET_PDEATHSIG, SIGKILL)``; False where the C library has none."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (OSError, AttributeError):
        return False
    return bool(prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) == 0)


def end_orphaned() -> None:
    """End this process at once: its parent is gone, and nobody asks for an exit code or cleans up after it."""
    os._exit(1)
