"""One node: what it knows of its peers, when it speaks with which, and what both do in a session.

    node.py           puts the parts together; begin there
    records           record_book, addresses, subscriptions
    peers             peer_table, peer_entries, scheduler, link_selection, backoff, peer_views
    sessions          connections, handshake, hello, admission, session_registry, conversations, escalation, mode_table,
                      failures, dropped_handshakes
    links, requests   live_links, on_demand;  the network: membership, invitations;  news: event_bus, events

Not here: how two stores become equal (sync/), messages and encryption (wire/), and sockets, mDNS and files (host/).
"""
