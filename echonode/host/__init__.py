"""The operating system: TCP, mDNS, logs, the service manager, configuration and the files of one node.

    tcp             streams, dialling, listening      logs, log_queue    the log lines
    mdns            announce and find nodes           service            sd_notify and signals
    announcement    the mDNS records, checked         system             time, randomness, addresses, interfaces
    home, files     the folder of one node            config             settings

Simulation replaces this room. It decides nothing: which peer is dialled and which is trusted is `node`'s business, the
local HTTP API is in `api/`, the database in `store/`.
"""
