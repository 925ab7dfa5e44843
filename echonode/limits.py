"""Every bound of the node, with its unit and its reason.

A name ends in its unit: BYTES, S (seconds), MS, DAYS, CHARS; without one it counts things. MAX and MIN are inclusive.
A pair is a range. Bounds of what a peer sends are checked before anything is allocated for it (SECURITY.md §3).
PROTOCOL.md §12 lists those that a peer can notice. Not here: sizes that follow from a format, such as 32-byte ids.
"""

from typing import Final

KIB: Final = 1024  # bytes
MIB: Final = 1024 * KIB  # bytes

# -- records ---------------------------------------------------------------------------------------------------------
BODY_BYTES_MAX: Final = 192 * KIB  # leaves 64 KiB of a record for its other fields; larger things are attachments
RECORD_BYTES_MAX: Final = 256 * KIB  # a quarter of a frame; one record more still fits behind a full batch
NAME_BYTES_MAX: Final = 200  # a file name (255 bytes) still has room for a suffix
POOL_KIND_MAX: Final = 99  # two digits: the kind is in the hash domain of a pool's id, of 16 bytes
POOLS_MAX: Final = 64  # pools that a node has labels for: people pick each by hand
POOL_OFFER_BYTES_MAX: Final = 256  # a pool in an invitation: id, kind, label and seed take up to 142
CONTEXT_BYTES_MAX: Final = 64  # a name that people type; 65 of them travel in each Hello
TEXT_FIELD_BYTES_MAX: Final = 200  # a model name or a media type; it travels with each version
MODELS_MAX: Final = 64  # models that a node names in its Hello; keeps the Hello small
VERSION_NUMBER_MAX: Final = 65_535  # a major or a minor; two bytes are enough for any version
TAGS_MAX: Final = 64  # tags of a record; a filter looks at each of them
TAG_BYTES_MAX: Final = 64  # a tag is a word
VECTOR_ENTRIES_MAX: Final = 1024  # writers that one version has seen; 1,024 entries take 28 KB of a record at most
HEADS_MAX: Final = 256  # heads of one record; an honest conflict has a few
HEADS_PER_KEY_MAX: Final = 16  # heads signed by one key; its store was restored so often, or it lies
HEADS_ENTRIES_MAX: Final = 16_384  # vector entries of a record's heads together; a version is compared with all of them
HEADS_BYTES_MAX: Final = 4 * MIB  # of a record's heads together; a leaf is read whole
SPARE_MAX: Final = 256  # versions of a record kept back while it has as many heads as it may have
SEEN_INSTANCES_MAX: Final = 16  # of a peer's key in a Hello, and former ones known to have two lives; each is a restore
SEEN_BYTES_MAX: Final = 8 * KIB  # of versions in a Hello, as proof of what was seen; most take some hundred
OWN_IDS_KEPT: Final = 100_000  # versions written here whose ids are kept by counter; 8 bytes each
FORKS_REMEMBERED: Final = 10_000  # heads noted whose writer used a counter twice; a lying peer can make any number
COUNTER_MENTIONED_MAX: Final = 2**48  # a peer's claim of our counter; no store writes as often, so more is a lie
TIMESTAMP_AHEAD_MS_MAX: Final = 10 * 60 * 1000  # a timestamp further ahead is flagged and does not move our clock
CONTEXTS_MAX: Final = 64  # contexts of others that are taken, when the configuration lists none; bounds the Hello
CONTEXTS_OWN_MAX: Final = 64  # contexts written here, which are always taken; the other half of a Hello
CONTEXTS_PER_IDENTITY_MAX: Final = 16  # of others' contexts introduced by one identity; four could use up the places
CONTEXTS_HELD_MAX: Final = 1024  # of others' contexts held, those without a live record too; each has a tree
CONTEXTS_TOLD_MAX: Final = 2 + CONTEXTS_OWN_MAX + CONTEXTS_MAX  # in a Hello or a link: with identities and main

# -- CBOR ------------------------------------------------------------------------------------------------------------
CBOR_DEPTH_MAX: Final = 16  # nested containers; the decoder recurses once for each
CBOR_ITEMS_MAX: Final = 65_536  # items in one item; a frame of tiny items would otherwise become a million objects

# -- frames and sessions ---------------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 1 * MIB  # a payload; a session buffers one whole payload
AUTH_BYTES_MAX: Final = 4 * KIB  # the first payload of each side; its sender is not authenticated yet
NOISE_MESSAGE_BYTES_MAX: Final = 65_535  # a Noise message (Noise §3)
REKEY_MESSAGES: Final = 2**14  # Noise messages under one key; that is 1 GiB at most (SECURITY.md H9)
HANDSHAKE_TIMEOUT_S: Final = 5.0  # for the whole handshake; a stranger holds a connection no longer
AUTH_TIMEOUT_S: Final = 10.0  # for Auth and Hello after the handshake; until then the peer is unproved
FRAME_TIMEOUT_S: Final = 30.0  # from the first byte of a frame to its last; half a frame costs memory
IDLE_TIMEOUT_S: Final = 300.0  # silence after which a session is dead; three heartbeats of a link fit into it
SESSION_AGE_S_MAX: Final = 12 * 3600.0  # then the keys of a session are replaced by those of a new one
HANDSHAKES_MAX: Final = 32  # handshakes at once; each costs three X25519 operations before the peer is known
HANDSHAKES_PER_ADDRESS_MAX: Final = 4  # of these from one address; one machine cannot use up all of them
HANDSHAKES_RESERVED: Final = 16  # more for addresses of known peers; a flood of strangers does not shut them out
CONNECTIONS_MAX: Final = 256  # open connections; each takes a file descriptor, and processes often have 1,024
SEND_QUEUE_BYTES_MAX: Final = 1 * MIB  # unsent bytes of a connection; a writer waits beyond it
STORE_CALLS_WAITING_MAX: Final = 64  # calls that wait for the store's thread; callers beyond wait outside

# -- discovery and dialling ------------------------------------------------------------------------------------------
CANDIDATES_MAX: Final = 1024  # peers and addresses in a table; anyone on the network can announce more
DIALS_MAX: Final = 4  # dials at once; the rest wait their turn
STATIC_DIALS_MAX: Final = 16  # dials at once of configured addresses; those that are off must not keep the others back
DIAL_TIMEOUT_S: Final = 5.0  # for a TCP connection to come up; longer than any local network takes
SCHEDULE_INTERVAL_S: Final = 0.02  # between two looks at what is due; saves the processor under a storm of events
MEET_AT_ONCE: Final = 16  # known peers; up to so many, a node dials a new one as soon as it sees it
MEET_INTERVAL_S: Final = (5.0, 15.0)  # between dials of new peers beyond that; 1,000 nodes would dial 500,000 times
BACKOFF_S: Final = (1.0, 300.0)  # before a dial is repeated; full jitter: uniform(0, min(cap, base * 2**attempt))
LOST_BACKOFF_S: Final = 5.0  # the most for a peer that was lost in this run, or more after a long absence:
LOST_BACKOFF_SHARE: Final = 0.01  # of its absence so far, so that a cut of 10 minutes is mended within 10 s
LOST_AT_ONCE: Final = 4  # lost peers; where more are lost, each waits longer, and all together are dialled as seldom
STATIC_BACKOFF_S: Final = (1.0, 2.5, 15.0)  # the same for a configured address: least, most if silent, most if not
STATIC_REPORT_S: Final = 3600.0  # between two lines about a configured peer that cannot be reached
MISLEADING_ADDRESS_S: Final = 3600.0  # for which an address that led to another node is not dialled for this target
KNOWN_ADDRESSES_MAX: Final = 4  # addresses of a peer kept over a restart; a laptop has two, a router three
SEEN_SAVED_S: Final = 3600.0  # between two saves of when a peer was seen; each is a commit
PEER_GONE_DAYS: Final = 30  # without a sign of life; then a peer is shown as gone, and a sync does not wait for it
COPIES_MAX: Final = 16  # addresses kept at which a copy of this node was found
COPY_SHOWN_S: Final = 900.0  # for which such an address is shown; it is dialled three times meanwhile
HANDSHAKES_REPORT_S: Final = 60.0  # between two lines about handshakes that were dropped, with their number
PAIRS_REMEMBERED: Final = 4096  # pairs of peer and context noted as unequal for a known reason; the oldest are dropped
SYNC_ATTEMPT_S: Final = (0.25, 5.0)  # before a sync on demand is tried again; full jitter as for BACKOFF_S
SYNC_ATTEMPTS_MAX: Final = 100  # of a sync on demand; its time bounds it as well
SYNC_PRIORITY_MAX: Final = 10  # of a sync on demand, as the Echo Sync Protocol has it
SYNC_BATCH_MAX: Final = 10_000  # peers at a time in a batch; ten times what a table of peers holds
SYNC_HISTORY_MAX: Final = 1000  # syncs on demand that are remembered; 300 bytes each
CHANGE_DELAY_S: Final = 0.005  # changes within it travel together; a change is on the wire within 100 ms
COMPARE_INTERVAL_S: Final = (45.0, 75.0)  # between comparisons of roots with idle peers; mends what spreading missed
RELAY_FANOUT: Final = 2  # peers that another node's change is sent to at once; others spread it too
WRITE_FANOUT: Final = 8  # peers that our own change is sent to at once; no other node has it yet

# -- rotation of the network secret ----------------------------------------------------------------------------------
ROTATION_MEMBERS_MAX: Final = 1024  # identities in one list of a rotation; as many peers fit a table
ROTATION_BYTES_MAX: Final = 96 * KIB  # what a rotator signs: two such lists
ROTATION_SERVED_MS: Final = 90 * 24 * 3600 * 1000  # for which an old secret still leads to the new one; a long holiday
PAST_NETWORKS_BYTES_MAX: Final = 2 * MIB  # of the file that holds them
PAST_NETWORKS_MAX: Final = 16  # secrets kept after a rotation or a change of network; the oldest are dropped

# -- conversations ---------------------------------------------------------------------------------------------------
BATCH_RECORDS_MAX: Final = 1000  # records in one message and in one transaction; bounds how long the store is busy
IMPORT_SHARED_RECORDS: Final = 200  # lines of an import written together while others write: they wait 20 ms for them
SHARED_FOR_S: Final = 2.0  # after a write or a live record that an import counts as such
BATCH_BYTES_MAX: Final = 512 * KIB  # records in one message; half a frame, so that one record more still fits
PREFIXES_PER_MESSAGE_MAX: Final = 1024  # prefixes in one message; their parts of 16 digests fit a frame
DIGESTS_PER_MESSAGE_MAX: Final = 8192  # 32-byte digests in one item of a Fetch; a quarter of a frame
BULK_WAIT_S: Final = (0.1, 1.0)  # to wait for another conversation about the context: since its last news, and in all
BULK_START_S: Final = 3.0  # for the first new record of a bulk; then other peers may bring the context
BULK_FILL_S_MAX: Final = 600.0  # for which one peer alone may fill a context; a slow one keeps others out no longer
BULK_BAN_S: Final = 3600.0  # for which a peer that brought less than half of its claim is not the only one again
WALK_PREFIXES_MAX: Final = 2**20  # differing prefixes in one level; honest trees of 10 million records have fewer
DELTA_RECORDS_MAX: Final = 100_000  # changes in one conversation; a peer further behind goes on from its new cursor
WINDOW: Final = 4  # requests or pages in flight; hides the round trip, and bounds what both sides buffer
REFUSALS_KEPT: Final = 1000  # refused versions kept by id in a conversation; further ones are only counted
ROUNDS_MAX: Final = 3  # walks in a conversation; writes could move the roots for ever
HASH_COMPARISON_DEPTH: Final = (1, 4)  # levels in one answer; this node asks for the least
SMALL_SUBTREE_LEAVES: Final = 64  # leaves of a differing subtree that is listed whole; saves a round trip
SKETCH_SYMBOLS_MAX: Final = 65_536  # symbols of a sketch; 576 KiB fit a frame and tell some 45,000 differences
SKETCH_COUNTS_MAX: Final = 1024  # symbols that travel with a count; 256 estimate the difference to a tenth
FILTERED_SETS_MAX: Final = 8  # filtered sets kept for the next reconciliation; 2.8 MB each of 50,000 records
FILTERED_PAGE_MAX: Final = 4000  # log entries looked at in one go; other readers wait for about 10 ms
FILTERED_ITEMS_MAX: Final = 2_000_000  # heads in all filtered sets together; 112 MB at most
RECONCILES_MAX: Final = 64  # reconciliations served at once; their filtered sets are bounded together
SKETCHES_MAX: Final = 8  # contexts whose sketch is kept up to date; 1.6 MB each
JOURNAL_LEAVES_MAX: Final = 16_384  # changed leaves noted for a sketch, 1 MiB; beyond it a new sketch costs less
SKETCH_BLOCKS_MAX: Final = 6  # questions for more symbols of a sketch; each may cost the reading of all of them
PUTS_IN_FLIGHT_MAX: Final = 16  # Puts behind a sketch; their answers fit a send queue even if all are refusals
VERIFY_CHUNK: Final = 128  # signatures checked in one call to a thread; some 10 ms of work
NEGENTROPY_BYTES_MAX: Final = 256_000  # a message of reconciliation; a longer one costs too much at once
NEGENTROPY_MESSAGES_MAX: Final = 8192  # messages of each side in a pass; disjoint sets of 10 million need 2,800
NEGENTROPY_RANGES_MAX: Final = 32_768  # in one message; an empty range costs 13 us, an honest message has fewer
PULL_SCAN_MAX: Final = 4  # pages of the log read for one page of ids; a filter that takes nothing ends early
FILTER_ENTRIES_MAX: Final = 256  # entries in one list of a filter; the filter travels with each request

# -- what authors and peers may have ----------------------------------------------------------------------------------
CLOSED_AUTHORS_MAX: Final = 128  # authors of a context noted as beyond a quota; half of the entries of a filter's list
QUOTA_REOPENED_AT: Final = 0.9  # of a quota, below which more is taken again; at the bound it would open and close
PEER_RATE_BURST_S: Final = 10.0  # of its rate that a peer may bring at once

# -- work for peers --------------------------------------------------------------------------------------------------
WORK_BURST_S: Final = 10.0  # of one core that a peer may ask for at once; a snapshot of a million records costs 8
WORK_SHARE: Final = 0.25  # of one core for a peer in the long run; the others, and people, have the rest
WORK_WAIT_S_MAX: Final = 60.0  # that a peer waits for one answer; a session survives 300 s of silence

# -- links -----------------------------------------------------------------------------------------------------------
LINKS_ALL_MAX: Final = 16  # known peers that a node links with all of; 120 links, and each peer hears at first hand
LINKS_CHOSEN: Final = 3  # peers that a node chooses to follow among more; random graphs of that degree are connected
LINKS_MAX: Final = 32  # links of a node, whichever side opened them; ten times what chance brings
FOLLOW_WINDOW_BYTES: Final = 2 * MIB  # sent on a link and not yet acknowledged; four full messages
ANNOUNCEMENT_WEIGHT: Final = 512  # bytes of that window for an announcement; bounds how many wait for their body
UNTAKEN_RECORDS_MAX: Final = 1000  # of one context on a link; news of another context passes them within 200 ms
COMMITS_RECORDS_MAX: Final = 250  # in one message of a link; four of them keep both sides busy
TAKEN_RECORDS: Final = 250  # taken on a link, after which the peer is told so at once
REQUESTS_MAX: Final = 16  # Missing messages of a link that wait for their answer; bounds what the peer notes
HEARTBEAT_S: Final = (150.0, 180.0)  # between Roots on a link without news; finds what no news would show
LINK_TICK_S: Final = (4.5, 5.0)  # between two looks at whether a link is alive; drawn, so that not both sides ping
LINK_PING_TICKS: Final = 3  # without a word of ours, then a Ping; so a peer hears of us every 15 s
LINK_SILENCE_TICKS: Final = 5  # without a word of the peer, then a link is over: 25 s; a stall of 15 s is survived
LINK_PROBE_S: Final = 5.0  # for a peer in doubt to answer on its link; as long as a dial takes
SILENT_S: Final = 30.0  # without a sign of life, after which a peer is not shown as connected
ROOTS_DELAY_S: Final = (0.3, 0.8)  # from a context's last news on a link to its root; each side then knows of it
ROOTS_DELAY_MANY_S: Final = (0.5, 1.5)  # the same among more than LINKS_ALL_MAX peers
ROOTS_INTERVAL_S: Final = 10.0  # between such Roots among many peers; one costs as much as half a record
SUSPECT_S: Final = 1.0  # without news of a context, after which a root that differs is looked into
REQUEST_RETRY_S: Final = 3.0  # without an announced version; then another peer that announced it is asked
ANNOUNCE_DELAY_S: Final = 0.25  # announcements within it travel together; the bodies come another way meanwhile
REPLAYS_MAX: Final = 10_000  # known records of a context in a row, beyond twice those held; an honest peer sends fewer
RECENT_VERSIONS_MAX: Final = 8192  # versions remembered as stored lately; their announcements are not asked for
UNEQUAL_COMPARE_INTERVAL_S: Final = 30.0  # between comparisons with a linked peer whose root stays different
COMPARE_INTERVAL_S_MAX: Final = 3600.0  # between comparisons that change nothing; each one doubles the wait
LINK_RETRY_S: Final = (0.1, 300.0)  # before a lost or refused link is tried again; full jitter as for BACKOFF_S
LINK_RENEWAL_S: Final = 3600.0  # between new choices of a followed peer; joins parts of a network that drifted apart

RECEIVE_FIRST_S: Final = 10.0  # for a peer to give what another life of this store wrote, before it is sent anything
FIRST_WRITE_WAIT_S: Final = 2.0  # after the start, for a known peer to say what it has seen of this store's writes
RESTORED_WAIT_S: Final = (5.0, 25.0)  # for the first write of a restored node to wait for a peer; (knowing none, some)

# -- readers of events -----------------------------------------------------------------------------------------------
EVENTS_WAITING_MAX: Final = 4096  # events that wait for one reader; a node waits for none
EVENTS_WAITING_BYTES_MAX: Final = 12 * MIB  # of memory that these take; a reader that stopped costs no more

ACTIVITY_SLOT_S: Final = 10.0  # of the series of the last hour; a page draws no finer
ACTIVITY_SLOTS_MAX: Final = 360
ACTIVITY_DAY_SLOT_S: Final = 600.0  # of the series of the last day
ACTIVITY_DAY_SLOTS_MAX: Final = 144  # both series together take 60 KB

CHANGES_BYTES_MAX: Final = 16 * KIB  # of the log read at once for a stream of changes; it is what a slow reader holds
SYNC_JOBS_MAX: Final = 100  # syncs begun by /v1/syncs and kept, running ones included; each holds a report
CHANGES_WAIT_S_MAX: Final = 300  # for one answer to a program that waits for changes; proxies cut longer ones

# -- the API over TCP ------------------------------------------------------------------------------------------------
API_CONNECTIONS_MAX: Final = 128  # to the TCP listener; any user of the machine can open them, and files are few
PAGE_TICKET_S: Final = 60.0  # for a browser to follow the link to the page; it opens at once
PAGE_SESSION_S: Final = 43_200.0  # of a page that asks for nothing; an open one asks every few seconds
PAGE_SESSIONS_MAX: Final = 16  # and tickets; browsers of one person
API_HEAD_TIMEOUT_S: Final = 10.0  # for the head of a request there; a program sends it at once

# -- disk ------------------------------------------------------------------------------------------------------------
READ_TRANSACTION_S_MAX: Final = 60.0  # age of a snapshot's read transaction; it keeps the WAL from shrinking
WAL_BYTES_MAX: Final = 256 * MIB  # written while a read transaction is open; all of it stays in the WAL
CURSORS_MAX: Final = 2**14  # cursors, one for each peer and context; the oldest are dropped
CURSOR_STEP: Final = 64  # entries between two saves of a cursor; a crash costs as many records that come again
CLAIM_ANSWERS_MAX: Final = 4096  # (author, key) whose standing is in memory, 1 MB; a busy network has fewer
COUNTER_ANSWERS_MAX: Final = 2048  # writers whose counter is in memory, 0.7 MB; others are read again
HISTORY_DAYS: Final = 30  # age of superseded versions kept; history is local and a convenience
LEAF_HISTORY_MAX: Final = 256  # superseded versions of a full leaf that are looked at again; reading more costs time
HISTORY_ROWS_MAX: Final = 100_000  # superseded versions kept; a busy record cannot fill the disk
HISTORY_BYTES_MAX: Final = 256 * MIB  # of superseded versions and spares; a hundred large edits a day for ten days
WRITE_S_MAX: Final = 60.0  # for one transaction; a writer that takes longer hangs, and the watchdog is fed no more
FREE_SPACE_BYTES_MIN: Final = 64 * MIB  # free disk space below which the store refuses writes, at least
FREE_SPACE_BYTES_MAX: Final = 1024 * MIB  # the same, at most: so much is enough for everybody else on a large disk
FREE_SPACE_SHARE: Final = 50  # a fiftieth of the disk is kept free, within these bounds; nearly full disks get slow
BALLAST_BYTES: Final = 1 * MIB  # a file removed on a full disk; a store opens in 160 KiB, even with a WAL of 64 MiB

# -- pairing ---------------------------------------------------------------------------------------------------------
INVITATION_TRIES: Final = 3  # wrong codes that close an invitation; a code has 16 secret bits
INVITATION_EXCHANGES_MAX: Final = 100  # exchanges begun, finished or not; SPAKE2 in Python is not constant-time
INVITATION_EXPIRES_S: Final = 600.0  # unless said otherwise; long enough to type a code on the next machine
INVITATION_USES_MAX: Final = 100  # joiners by one invitation; a code that more people know is no secret

# -- logs and people -------------------------------------------------------------------------------------------------
LOG_LINES_PER_S: Final = 10  # lines for each peer and event; further ones are counted and told in one line
LOG_QUEUE_BYTES_MAX: Final = 1 * MIB  # lines that wait for a reader of the log who stopped; further ones are dropped
LOG_LINE_BYTES_MAX: Final = 16 * KIB  # a log line; journald splits lines at 48 KiB
LOG_RING_LINES: Final = 4096  # of debug, and of the other levels, kept in memory; some 4 MiB, a day of a quiet node
LOG_PEERS_MAX: Final = 64  # peers with a log level of their own; a person names each
TRACED_SESSIONS_MAX: Final = 64  # sessions whose messages are kept for `trace`; the oldest go first
TRACED_MESSAGES: Final = 256  # the last messages of each that are kept; 25 KB
PEER_TEXT_CHARS_MAX: Final = 128  # characters shown of a text from a peer; keeps a line readable
NODE_NAME_BYTES_MAX: Final = 64  # a node's name; as long as a host name may be on Linux
