"""Every bound in one place, each with its reason. All are checked before anything is allocated (SECURITY.md §3)."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# -- records ---------------------------------------------------------------------------------------------------------
BODY_BYTES_MAX: Final = 192 * KIB  # larger things are attachments; leaves room for every other field below
RECORD_BYTES_MAX: Final = 256 * KIB
NAME_BYTES_MAX: Final = 200  # fits a file name with room for a suffix
CONTEXT_BYTES_MAX: Final = 64
TEXT_FIELD_BYTES_MAX: Final = 200  # model name, media type
MODELS_MAX: Final = 64  # that a node says are read there
VERSION_NUMBER_MAX: Final = 65_535  # of a major or minor, of the protocol or of a model that is read
TAGS_MAX: Final = 64
TAG_BYTES_MAX: Final = 64
VECTOR_ENTRIES_MAX: Final = 64  # writers one version may have seen
FORKS_REMEMBERED: Final = 10_000  # heads whose writer gave their counter twice; a liar makes as many as it likes
COUNTER_MENTIONED_MAX: Final = 2**48  # no store writes as often; a higher claim of our own counter is a lie
TIMESTAMP_AHEAD_MS_MAX: Final = 10 * 60 * 1000  # beyond this a timestamp is flagged and never moves our clock
CONTEXTS_MAX: Final = 64  # taken from peers when the configuration lists none; keeps a hello under its limit

# -- CBOR ------------------------------------------------------------------------------------------------------------
CBOR_DEPTH_MAX: Final = 16
CBOR_ITEMS_MAX: Final = 65_536

# -- frames and sessions ---------------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 1 * MIB
AUTH_BYTES_MAX: Final = 4 * KIB
NOISE_MESSAGE_BYTES_MAX: Final = 65_535  # Noise spec §3
REKEY_MESSAGES: Final = 2**14  # under 1 GiB a key, both directions (SECURITY.md H9)
HANDSHAKE_TIMEOUT_S: Final = 5.0
AUTH_TIMEOUT_S: Final = 10.0
FRAME_TIMEOUT_S: Final = 30.0  # for a whole frame, in total
IDLE_TIMEOUT_S: Final = 300.0
SESSION_AGE_S_MAX: Final = 12 * 3600.0
HANDSHAKES_MAX: Final = 32
HANDSHAKES_PER_ADDRESS_MAX: Final = 4
HANDSHAKES_KEPT: Final = 16  # more, for addresses where peers were met: a flood of strangers does not shut them out
CONNECTIONS_MAX: Final = 256
SEND_QUEUE_BYTES_MAX: Final = 1 * MIB
STORE_CALLS_WAITING_MAX: Final = 64

# -- discovery and dialling ------------------------------------------------------------------------------------------
CANDIDATES_MAX: Final = 1024
DIALS_MAX: Final = 4
DIAL_TIMEOUT_S: Final = 5.0
DECIDE_INTERVAL_S: Final = 0.02  # at most so often a node looks at what is due
MEET_AT_ONCE: Final = 16  # peers a node meets as soon as it sights them; of more it meets one after another,
MEET_INTERVAL_S: Final = (5.0, 15.0)  # so often: a thousand that start at once would dial half a million times
BACKOFF_S: Final = (1.0, 300.0)  # full jitter: uniform(0, min(cap, base * 2**attempt))
CHANGE_DELAY_S: Final = 0.005  # changes within it travel together; a change reaches the wire within 100 ms
COMPARE_INTERVAL_S: Final = (45.0, 75.0)  # how often idle peers compare roots
RELAY_FANOUT: Final = 2  # peers told at once of changes that came from somebody else
WRITE_FANOUT: Final = 8  # peers told at once of our own writes

# -- conversations ---------------------------------------------------------------------------------------------------
BATCH_RECORDS_MAX: Final = 1000  # records in one message and in one transaction
BATCH_BYTES_MAX: Final = 512 * KIB  # of records in one message: half a frame, so that one record more still fits
PREFIXES_PER_MESSAGE_MAX: Final = 1024  # 16 children of 32 bytes each stay within a frame
DIGESTS_PER_MESSAGE_MAX: Final = 8192
LEAD_WAIT_S: Final = (0.1, 1.0)  # for what others bring of the same context: without anything new, and in all
FILL_BEGINS_S: Final = 3.0  # within which the first new record must come, or others may fill it
FILLING_S_MAX: Final = 600.0  # one peer may be the only one to fill a context for so long
MISTRUST_S: Final = 3600.0  # and not again for so long when it brought less than half of what it claimed
WALK_PREFIXES_MAX: Final = 2**20  # differing prefixes in one level; honest trees have fewer up to 10 million records
DELTA_RECORDS_MAX: Final = 100_000  # changes in one conversation; whoever is further behind goes on from its new cursor
WINDOW: Final = 4  # requests in flight
REFUSALS_KEPT: Final = 1000  # by name, in one conversation; the rest is only counted
ROUNDS_MAX: Final = 3  # walks in one conversation while writes keep moving a root
HASH_COMPARISON_DEPTH: Final = (1, 4)  # least (as we ask) and most levels in one answer
SMALL_SUBTREE_LEAVES: Final = 64  # a differing subtree this small comes whole
SKETCH_SYMBOLS_MAX: Final = 65_536  # 768 KiB of symbols: one frame; reads some 45,000 differences
SKETCH_COUNTS_MAX: Final = 1024  # symbols whose counts tell how much differs; 256 tell it to a tenth
SURVEYS_MAX: Final = 2  # parts of contexts whose ids are kept for the next reconciliation: 300 bytes a record
RECONCILES_MAX: Final = 8  # reconciliations served at once: each may be of another part
SKETCHES_MAX: Final = 8  # contexts whose sketch is kept up to date: 1.6 MB each
JOURNAL_LEAVES_MAX: Final = 16_384  # changes noted for a sketch: 1 MB; behind more it is built anew
SKETCH_BLOCKS_MAX: Final = 6  # of symbols in a conversation, behind the first: each may cost a reading of all
PUTS_IN_FLIGHT_MAX: Final = 16  # behind a sketch: so many answers, all refusals, still fit a send queue
VERIFY_CHUNK: Final = 128  # signatures checked in one thread hop
NEGENTROPY_BYTES_MAX: Final = 1_000_000  # of one reconciliation message: just under a frame
NEGENTROPY_MESSAGES_MAX: Final = 2048  # of each side in one pass; disjoint sets of 10 million need 700
PULL_SCAN_MAX: Final = 8  # pages of the log looked through for one page of ids
FILTER_ENTRIES_MAX: Final = 256  # of one list of a filter: it travels with every request that has one

# -- following -------------------------------------------------------------------------------------------------------
FOLLOWS: Final = 3  # peers a node chooses to follow; random graphs of as many are connected, however large
FOLLOWERS_MAX: Final = 32  # links with peers, whoever opened them; ten times what chance brings
FOLLOW_WINDOW_BYTES: Final = 2 * MIB  # told and not yet taken; four full messages
ANNOUNCEMENT_WEIGHT: Final = 512  # of that window, for what is only announced: bounds how much may be waited for
BEAT_S: Final = (60.0, 90.0)  # how often a link with nothing to tell tells its roots; three within IDLE_TIMEOUT_S
ROOTS_DELAY_S: Final = (0.5, 1.5)  # behind the last thing told, so that each learns that the other has all of it
ROOTS_INTERVAL_S: Final = 10.0  # between two of these, where writes come one after another: they cost half a record
REASK_S: Final = 3.0  # without what was asked for, until another who announced it is asked too
ANNOUNCE_DELAY_S: Final = 0.25  # announcements within it travel together; bodies take another way meanwhile
REPLAYS_MAX: Final = 10_000  # records in a row that were no news, beyond twice what is held; then the peer is a liar
RECENT_MAX: Final = 8192  # versions remembered as stored lately, so that nobody's announcement is asked for in vain
SUSPECT_INTERVAL_S: Final = 30.0  # between comparisons with a peer whose root stays another
REFOLLOW_S: Final = (0.1, 300.0)  # full jitter, as for BACKOFF_S, before a lost or refused link is tried again
MIX_S: Final = 3600.0  # how often one of the peers to follow is chosen anew: networks that grew apart find together

# -- disk ------------------------------------------------------------------------------------------------------------
READ_TRANSACTION_S_MAX: Final = 60.0
WAL_BYTES_MAX: Final = 256 * MIB  # written while a read transaction is open, which keeps it out of the file
CURSORS_MAX: Final = 2**14  # a peer, a context and a filter each; the oldest go
HISTORY_DAYS: Final = 30
HISTORY_ROWS_MAX: Final = 100_000
FREE_SPACE_BYTES_MIN: Final = 64 * MIB
BALLAST_BYTES: Final = 1 * MIB  # a store is opened and read in 160 KiB, even with a WAL of 64 MiB

# -- pairing ---------------------------------------------------------------------------------------------------------
INVITATION_TRIES: Final = 3
INVITATION_EXCHANGES_MAX: Final = 100  # begun ones, finished or not: SPAKE2 in Python is not constant-time
INVITATION_EXPIRES_S: Final = 600.0
INVITATION_USES_MAX: Final = 100

# -- logs and people -------------------------------------------------------------------------------------------------
LOG_LINES_PER_S: Final = 10  # per peer and event, then counted and folded
LOG_LINE_BYTES_MAX: Final = 16 * KIB  # journald splits at 48 KiB
PEER_TEXT_CHARS_MAX: Final = 128
NODE_NAME_BYTES_MAX: Final = 64
