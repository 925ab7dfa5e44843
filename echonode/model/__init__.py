"""The model: what a record is, as pure functions of bytes. No clock, disk or network.

    record  fields  cose        a version: its fields, its bytes, its signature, the heads of a record
    identity                    identities and signing keys
    keys  key_claims  keyring   key statements, what they claim, and the keys they admit
    filter  filter_text         which records are wanted: on the wire, and as people write it
    merkle  sketch              the tree of a context, and the sketch of its leaves

Not here: where records are kept (store/), how they travel (wire/ and sync/), how a reader sees them (api/).
"""
