"""Links: sessions that go on as `follow`, in which each side tells the other what it stores (PROTOCOL.md §8.15).

    link          one link: its tasks and timers
    sender        this side's log, told to the peer
    receiver      the peer's log, verified and stored here
    send_queue    what sender and receiver of one link share
    plumtree      what all links of a node share: which link delivers a version whole, which one announces it

Not here: which peers are followed (node/link_selection.py) and how a session becomes a link (node/live_links.py).
"""
