"""The stores: they keep the records of a node.

    port            the `Store` protocol: what the rest of the program may ask of a store
    memory          a store in dictionaries, for simulation and as the judge of the one on disk
    sqlite/         the store in one SQLite file
    merge, draft_signing, paging, cursors, counters, own_versions      pure rules that both stores share

`sync` and `node` import `port` alone. This room checks no signature, except in an audit or a repair: only verified
records come in. It opens no connection to a peer and decides nothing about when to write.
"""
