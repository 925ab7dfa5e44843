"""The wire: everything between a stream of bytes and a message. Pure: bytes in, bytes out; no socket, clock or disk.

    noise  channel  frame            the secured channel: handshake, keys, frames
    messages/  codec                 the messages, and their bytes
    auth                             proof of the identities at both ends
    pairing  word_list               invitations: a short code for the network secret
    negentropy  ranges               range-based set reconciliation

Not here: the order in which messages are sent (sync/ for conversations, node/ for sessions), sockets (host/tcp.py),
and the contents of a record (model/).
"""
