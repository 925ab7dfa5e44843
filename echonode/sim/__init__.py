"""The simulator: a network of real nodes in one process, in virtual time, drawn from a seed.

In this folder: the deterministic event loop, simulated networks, multicast and disks, the faults, clients and
adversaries of a world, and the invariants that must hold in it. `scenario.run_seed(seed)` runs one world from beginning
to end; `batch` runs many. `echonode simulate` and tests/sim start here.

Not in this folder: any protocol code. The nodes are `node.node.Node`, the code that ships; a test compares the
functions entered here with those entered over TCP (tests/sim/test_same_code.py). Drawing and printing of figures is in
cli/.
"""
