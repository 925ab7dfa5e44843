"""The manual: what `echonode help TOPIC` shows, and the commented file that `echonode config init` writes.

* `settings` is the table of the configuration's keys: form, default, unit, example, variable and flag of each.
* `log_events` is the catalogue of log lines, and `log_lines` makes lines for people of it.
* `topics` makes the pages out of these.

Tests hold the tables to the code. The help of a single command stands with that command, in cli/commands.
"""
