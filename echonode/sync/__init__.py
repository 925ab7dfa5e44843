"""The sync engine: how two stores come to hold the same records, over any stream and any store.

    modes/    one executor a file: both sides of one sync mode
    live/     links: sessions that stay open, in which each side tells the other what is new
    here      what those share: the conversation, the executor contract, the transfer of records, the checks of answers,
              and the selection of a mode

Not here: when to sync and with which peer (node/), what messages look like and how they are encrypted (wire/), how
records are kept (store/; only its port is known here).
"""
