"""What child processes of the tests begin with."""

import signal


def hear_hangups() -> None:
    """Under nohup a SIGHUP is ignored, by children as well, and rightly so by minitrain: what tests it begins anew."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
