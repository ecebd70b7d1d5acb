"""Being asked to stop: signals become interrupts of children, or an exception that cleans up."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, object], object]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM so for a while; only the main thread can, others change nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, handler) for number in STOPS}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


@contextmanager
def passed_on(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to a child process as SIGTERM."""
    with handled(lambda *_: child.send_signal(signal.SIGTERM)):
        yield


@contextmanager
def interrupted_children() -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on to child processes as SIGINT; yields the signals that came."""
    came: list[int] = []

    def forward(number: int, _: object) -> None:
        import psutil  # ipykernel brings it

        came.append(number)
        for child in psutil.Process().children(recursive=True):
            child.send_signal(signal.SIGINT)

    with handled(forward):
        yield came


def clean_up_when_stopped() -> None:
    """Leave by an exception when asked to stop, so that folders are cleaned up."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not nohup
        signal.signal(signal.SIGHUP, leave)
