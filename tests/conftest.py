"""Profiles of property tests: no deadline, as machines pause; `ECHO_HYPOTHESIS=release` draws more examples."""

import os

from hypothesis import settings

settings.register_profile("usual", deadline=None, max_examples=60)
settings.register_profile("release", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("ECHO_HYPOTHESIS", "usual"))
