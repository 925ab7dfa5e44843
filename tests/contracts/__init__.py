"""Contracts: what several implementations, or a document and the code, must agree on.

    byte_stream.py  store*.py    the checks of the ports ByteStream and Store, run on each implementation
    test_cddl.py                 proto/echonode.cddl against the codec; cddl.py reads the file
    test_protocol_*.py           proto/PROTOCOL.md against the code and real traffic; document.py reads its tables
    traffic.py                   real traffic: a simulated network in which everything happens once
"""
