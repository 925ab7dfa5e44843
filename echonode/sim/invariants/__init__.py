"""The invariants of a world, and the checks of them.

    checks           watches a world; its head lists all invariants by name (S1 to S8, V, E1 to E5, I1 to I12)
    expected_heads   merges versions by the definition
    version_check    reads the bytes of a version by PROTOCOL.md

Not here: the phases in which the checks run (sim/scenario.py), and the list of work that a node still has to do
(sim/quiescence.py).
"""
