"""Settings that all tests share.

Property tests have no deadline, as machines pause; `ECHO_HYPOTHESIS=release` draws more examples. Ctrl-C works in the
tests and in each process that they start, also where the shell runs them in the background with SIGINT ignored.
"""

import os
import signal

from hypothesis import settings

settings.register_profile("usual", deadline=None, max_examples=60)
settings.register_profile("release", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("ECHO_HYPOTHESIS", "usual"))

signal.signal(signal.SIGINT, signal.default_int_handler)
