"""Tests of echonode/wire: the channel, frames, messages, AUTH, pairing and reconciliation. No socket is opened.

    test_*.py                                  against published vectors, other libraries, and hypothesis
    make_*_vector(s).py                        write proto/vectors/handshake, message, conversation and file.json
    strategies.py  bounds.py  payloads.py      any message; every bound of every field; payloads with a part exchanged
    ends.py                                    two real ends of a channel
"""
