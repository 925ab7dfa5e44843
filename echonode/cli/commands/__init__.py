"""The commands, grouped by subject; `cli/main.py` adds each of them to the group `echonode`.

    network            run, invite, join, network show, network set
    records, conflicts put, get, delete, list, forget; conflicts list, show, resolve, history
    peer_records       pull, and the parts of `get --from` and `put --to` that speak to one peer
    import_export      import, export: lines of JSON, or signed versions
    status, sync       status, peers, contexts, rename; watch, verify; sync is in echo_sync
    observation        logs, log-level, trace, why
    configuration      config show, config check, config init, help; completion is in shell
    demo, simulate     a network of real nodes on this machine; networks in virtual time

A command parses its options, sends one request through `cli/client.py` and prints the answer. It holds no other logic.
"""
