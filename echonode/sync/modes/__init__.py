"""The sync modes: one module each, and each module is an Executor (sync/executor.py) with both sides of the mode.

    level_wise, hash_comparison    walk the trees to what differs
    sketch                         finds what differs by a few symbols, however large the trees are
    snapshot                       fills an empty context
    delta                          catches up from a cursor in the peer's change log
    reconcile                      makes the part that a filter takes equal
    pull, get, put                 answer a question about records; they are asked for by name, never selected

Not here: which mode is taken (sync/select.py), and the table of modes (node/mode_table.py).
"""
