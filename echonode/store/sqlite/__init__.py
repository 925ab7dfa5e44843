"""The store on disk: one SQLite file, and an index in memory beside it.

    store            `SqliteStore`: opens the file, implements the port       schema   the tables
    group_commit     the queue of calls that write                            load     memory rebuilt at opening
    plan             the plan of each call that writes                        audit    `verify`
    transaction      rows of one write transaction; reading of leaves         repair   a damaged file made anew
    snapshot_read    read transactions      snapshot_receive   staging        connection   a connection and its thread
    claim_rows       what key statements say  counter_rows       writers        lookups      single rows, at once
    revocation       effects of a compromised key                             disk_space   room on the disk
    own_rows         which versions were written here

The rules of merging, signing and paging are not here: they are in `store/`, and the store in memory shares them.
"""

from echonode.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
