"""The invariants of a world, and the checks of them.

    name  what must hold                                                         checked by
    on every commit
    S1    every stored version is signed, by a key that may speak for its author    on_commit and intern; all: check
    on every event
    V     an end of a conversation or link that calls itself equal has a root       watch
          that its honest peer has had, unless the peer says that it went one way
    at any moment
    S2    the root of a context is the root of its heads, computed anew             check
    S3    an acknowledged version is stored, or a version that supersedes it        check
    S4    no superseded version is a head, be it by a tombstone or another version  check
    S5    a pin never changes                                                       check
    S6    a node's clock stays near the wall clock of its machine                   check
    S7    tasks, connections and tables stay below their bounds                     check
    S8    no conversation is complete without its close                             V; tests/sync/test_transport.py
    after the faults
    E1    all honest nodes hold the same versions, roots and key statements;        check_agreement, check_partial
          partial nodes hold what they want, and nothing outdated
    E2    these versions are the merge of all versions ever stored                  check_agreement
    E3    that is so within a bound of time and of conversations                    sim/scenario.py
    E4    no work is left, and all nodes know that they are equal                   check_known_equal, check_quiescence,
                                                                                    sim/scenario.py
    E5    two versions under one dot are both held and reported by every node       check_forks
    in every world
    I1    every applied version reaches every synced peer                           E1
    I2    all nodes come to agree                                                   E2, E3
    I3    a merge is deterministic and does not depend on the order of arrival      E2
    I4    all modes lead to the same state                                          E2, as all modes run in 300 worlds:
                                                                                    tests/sim/test_scenario.py
    I5    no silent loss: a node that holds records merges                          S3, E2
    I6    records written during a sync are kept and sent                           S3, E2
    I7    a snapshot is verified before it becomes visible                          S1, V
    I8    causal order                                                              S4
    I9    ids are deterministic                                                     S1; the rest of a run:
                                                                                    tests/sim/test_determinism.py
    I11   a node advertises only what runs                                          watch; all that is advertised runs:
                                                                                    tests/sim/test_scenario.py
    I12   "nothing to do" is said, not guessed                                      V, E4, Clients.check_answers

There is no I10. Names without a file are methods of `checks.Invariants`.

In this folder: `checks` watches a world, `expected_heads` merges versions by the definition, `version_check` reads the
bytes of a version by PROTOCOL.md. Not here: the phases in which the checks run (sim/scenario.py), and the list of work
that a node still has to do (sim/quiescence.py).
"""
