"""The manual: what `echonode help TOPIC` shows, and the commented file that `echonode config init` writes.

* `settings` is the table of the configuration's keys: form, default, unit, example, variable and flag of each.
* `topics` makes the pages out of it.

A test holds the table to host/config.py. The help of a single command stands with that command, in cli/commands.
"""
