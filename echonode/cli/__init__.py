"""The command line: `echonode` and its commands.

* `main` builds the command group, runs one command and turns every error into an exit code and one sentence.
* `commands/` has one file per group of commands.
* `client` speaks HTTP to the running node; `node_lookup` finds it; `services` names what `app.py` hands in.
* `arguments` and `help_text` read and explain what people type; `output`, `columns`, `progress` and `plot` draw what
  they read.

Nothing here decides what a record, a peer or a sync is: a command sends a request to the local API and shows the
answer. The commands do not import the API, the host or the simulator.
"""
