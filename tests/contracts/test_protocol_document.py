"""The tables, names and numbers of PROTOCOL.md equal those of the implementation."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from itertools import combinations, product

import pytest
from spake2.parameters.ed25519 import ParamsEd25519

from echonode import cbor, digest, limits
from echonode.digest import OFFERS
from echonode.errors import Reason
from echonode.host.announcement import Announcement, to_txt
from echonode.host.tcp import DEFAULT_PORT
from echonode.limits import CONTEXTS_TOLD_MAX
from echonode.model import fields as record_fields
from echonode.model.filter import _SHAPES, Filter
from echonode.model.identity import (
    Instance,
    PublicKey,
    identity_of,
    pool_identity,
    writer_of,
)
from echonode.model.keys import KeyState, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.merkle import Digest, State, Tree, leaf_digest, state_of
from echonode.model.record import LeafKey, VersionId, leaf_key
from echonode.node.node import group_tag
from echonode.sync.filtered_set import id_list_digest
from echonode.sync.select import Mode, select
from echonode.sync.select import State as Side
from echonode.text import to_base32
from echonode.wire import messages as m
from echonode.wire import pairing
from echonode.wire.channel import NetworkSecret
from echonode.wire.codec import _TABLE
from tests.contracts.document import PROTO, TEXT, Row, section, table
from tests.wire.make_message_vectors import statements

KEY = bytes(range(32))


# -- sections ----------------------------------------------------------------------------------------------------------
def test_every_section_that_is_cited_is_there() -> None:
    cited = set(re.findall(r"(?<!RFC ....)(?<!Noise) §([0-9]+(?:\.[0-9]+)?)", TEXT))
    paths = [path for room in ("echonode", "tests") for path in (PROTO.parent / room).rglob("*.py")]
    sources = [path.read_text() for path in paths if path.name != "test_documents.py"]  # which cites what is not there
    for text in [*sources, (PROTO / "echonode.cddl").read_text()]:
        for line in re.findall(r"PROTOCOL\.md (.*)", text):
            cited |= set(re.findall(r"(?:§|section )([0-9]+(?:\.[0-9]+)?)", line))
    assert {"3", "4", "5", "5.2", "6", "7", "8.1", "8.2", "8.3", "9"} <= cited
    for number in cited:
        section(number)


def test_every_file_that_is_named_is_there() -> None:
    for name in re.findall(r"`(vectors/[a-z]+\.json|[a-z]+\.cddl)`", TEXT):
        assert (PROTO / name).is_file(), name


# -- §3 ----------------------------------------------------------------------------------------------------------------
def by_the_table(name: str, data: bytes, key: bytes = b"") -> bytes:
    row = next(row for row in table("3", "name") if row["name"] == name)
    assert bool(row["key"]) == bool(key)
    return blake2b(data, digest_size=int(row["bytes"]), person=row["person"].encode(), key=key).digest()


def test_every_hash_is_made_as_the_table_says() -> None:
    public, instance = PublicKey(bytes([1]) * 32), Instance(bytes(8))
    author = identity_of(public)
    heads = [VersionId(bytes([number]) * 32) for number in (3, 1, 2)]
    key, state = leaf_key(author, "Küche"), state_of(heads)
    assert author == by_the_table("identity id", public)
    assert writer_of(public, instance) == by_the_table("writer", public + instance)
    assert key == by_the_table("leaf key", author + "Küche".encode())
    assert state == by_the_table("state", b"".join(sorted(heads)))
    assert leaf_digest(key, state) == by_the_table("leaf digest", key + state)
    assert Filter(name="a*").digest() == by_the_table("filter digest", cbor.encode({11: "a*"}))
    assert id_list_digest(heads) == by_the_table("id list", b"".join(sorted(heads)))
    assert digest.keyed(digest.ROOT_TAG, KEY, b"root", 8) == by_the_table("root tag", b"root", KEY)
    assert digest.digest(OFFERS, b"list") == by_the_table("offers digest", b"list")
    secret = NetworkSecret.private(KEY)
    assert secret.netid == by_the_table("netid", b"", KEY)
    assert secret.psk == by_the_table("psk", b"", KEY)
    assert bytes(group_tag(KEY, b"8 bytes.")) == by_the_table("group tag", b"8 bytes.", KEY)
    assert group_tag(None, b"8 bytes.") == by_the_table("group tag", b"8 bytes.", b"echonode open network")
    seed = by_the_table("pool seed of a lone network key", b"shared", KEY)
    member = MemberSecret.of_lone_key(KEY)
    assert member == MemberSecret(KEY, seed)
    checksum = by_the_table("secret checksum", KEY + seed)
    assert member.to_text() == to_base32(KEY + seed + checksum[:6])
    assert pool_identity(1, public) == by_the_table("common pool id", public)
    assert pool_identity(2, public) == by_the_table("closed pool id", public)
    public_key = blake2b(b"echonode public network", digest_size=32, person=b"echonode netid").digest()
    assert NetworkSecret.public() == NetworkSecret.private(public_key)


def test_every_person_string_is_in_the_table_and_none_twice_but_for_the_public_networks_key() -> None:
    persons = [row["person"].encode() for row in table("3", "name")]
    constants = {value for name, value in vars(digest).items() if name.isupper() and isinstance(value, bytes)}
    assert len(set(persons)) == len(persons)
    assert set(persons) == constants | {pairing._PAIRING}


def test_a_version_id_is_the_hash_of_the_sig_structure() -> None:
    record = statements()[0]
    protected, _, payload, _ = cbor.decode(record.raw)  # type: ignore[misc]
    aad = cbor.encode(["echonode", "statement", 1])
    assert record.id == by_the_table("version id", cbor.encode(["Signature1", protected, aad, payload]))


# -- §4 ----------------------------------------------------------------------------------------------------------------
def test_the_fields_of_a_record_are_those_of_the_code() -> None:
    rows = {row["field"]: int(row["number"]) for row in table("4.2", "number")}
    for name, number in rows.items():
        assert getattr(record_fields, name.upper().replace(" ", "_")) == number
    assert list(rows.values()) == list(range(1, 14))


def test_a_key_statement_is_named_as_the_document_says() -> None:
    for state in KeyState:
        assert re.search(rf"\b{state.value} \({state.name.lower()}\)", section("4.6"))
    draft = statement_draft(identity_of(PublicKey(KEY)), PublicKey(KEY), KeyState.RETIRED)
    assert draft.name == "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq/retired"
    assert f"`{draft.model}`" in section("4.6") and f"`{draft.media_type}`" in section("4.6")


def test_the_fields_of_a_filter_are_those_of_the_code() -> None:
    rows = {int(row["number"]): row["field"] for row in table("4.8", "number")}
    code = {number: name.removesuffix("_ms").replace("_", " ") for number, (name, _) in _SHAPES.items()}
    assert rows == code


# -- §6 ----------------------------------------------------------------------------------------------------------------
def test_the_table_of_messages_is_that_of_the_codec() -> None:
    rows = table("6", "code")
    assert [int(row["code"]) for row in rows] == sorted(_TABLE)
    for row in rows:
        kind, _ = _TABLE[int(row["code"])]
        assert row["message"] == kind.__name__
        assert [name for name in row["fields"].split(", ") if name] == [field.name for field in fields(kind)]


# -- §7 ----------------------------------------------------------------------------------------------------------------
def test_the_digest_below_a_prefix_is_a_function_of_its_leaves_as_the_document_says() -> None:
    keys = sorted(LeafKey(digest.digest(b"a test", bytes([number]))) for number in range(200))
    leaves = [(key, State(key[::-1])) for key in keys]

    def below(prefix: bytes) -> Digest:
        own = [(key, state) for key, state in leaves if key.hex().startswith(prefix.hex()[1::2])]
        count = len(own).to_bytes(8, "big")
        if not own and prefix:
            return Digest(bytes(32))
        if len(own) <= 16:
            return Digest(by_the_table("bucket digest", count + b"".join(key + state for key, state in own)))
        return Digest(by_the_table("branch digest", count + b"".join(below(prefix + bytes([n])) for n in range(16))))

    tree = Tree(leaves)
    for prefix in (b"", b"\x00", b"\x0f", b"\x03\x01", b"\x03\x01\x04\x01"):
        assert tree.digest_at(prefix) == below(prefix)
    leaves = []
    assert Tree().root == below(b"")


MANY = 2048
SIDES = {"empty": Side(b"0", 0, (None,) * 16), "some": Side(b"1", 9, (b"1",) + (None,) * 15)}


def by_the_selection_table(rows: Sequence[Row], ours: Side, theirs: Side, common: Sequence[Mode]) -> str:
    differing = sum(our != their for our, their in zip(ours.level1, theirs.level1, strict=True))
    is_followed = ours.cursor is not None and ours.cursor <= theirs.seq
    tests: dict[str, Callable[[str], bool]] = {
        "roots": lambda cell: cell == ("equal" if ours.root == theirs.root else "unequal"),
        "wants a part": lambda cell: (ours.is_partial and "here" in cell) or (theirs.is_partial and "there" in cell),
        "here": lambda cell: (
            is_followed if cell == "followed" else ours.count == 0 if cell == "empty" else ours.count >= MANY
        ),
        "there": lambda cell: theirs.count == 0 if cell == "empty" else theirs.count >= MANY,
        "surplus": lambda cell: abs(ours.count - theirs.count) <= int(cell.split()[-1].replace(",", "")),
        "differing": lambda cell: str(differing) in cell.split(" or "),
        "common has": lambda cell: cell in [mode.value for mode in common],
    }
    for row in rows:
        if all(row[column] == "any" or test(row[column]) for column, test in tests.items()):
            return row["opens"]
    raise AssertionError("no row fits")


def test_the_selection_table_chooses_as_the_code_does() -> None:
    rows = table("8.6", "roots")
    others = [Side(b"2", 9, (b"2",) * count + (b"1",) + (None,) * (15 - count)) for count in (0, 1, 2, 3, 15)]
    others += [Side(bytes([cursor]), 9, (bytes([cursor]),) * 16, 7, cursor) for cursor in (6, 7, 8)]
    others += [Side(b"3", 9, SIDES["some"].level1), *SIDES.values()]
    others += [replace(others[1], is_partial=True), replace(SIDES["empty"], is_partial=True)]
    others += [Side(count.to_bytes(3, "big"), count, (b"2",) * 16) for count in (MANY - 1, MANY, MANY + 32_768)]
    others += [Side(b"4", MANY + 32_769, (b"2",) * 16)]
    modes = [mode for mode in Mode if mode not in (Mode.PULL, Mode.GET, Mode.PUT)]
    chosen = set()
    for size in range(len(modes) + 1):
        for common, ours, theirs in product(combinations(modes, size), others, others):
            selection = select(ours, theirs, common)
            opens = by_the_selection_table(rows, ours, theirs, common)
            assert opens.startswith(selection.mode.value if selection.mode else "nothing"), (ours, theirs, common)
            assert ("left to the peer" in opens) == selection.is_theirs
            chosen.add(opens)
    assert chosen == {row["opens"] for row in rows}


# -- §9 ----------------------------------------------------------------------------------------------------------------
def test_the_reasons_are_those_of_the_code() -> None:
    assert {row["reason"]: int(row["code"]) for row in table("9.1", "code")} == {each.text: each for each in Reason}


# -- §10 ---------------------------------------------------------------------------------------------------------------
def test_the_keys_of_the_announcement_are_those_of_the_code() -> None:
    txt = to_txt(Announcement(bytes(8), bytes(8), "1.0", "7", 1))
    rows = table("10.1", "key")
    assert [row["key"] for row in rows] == list(txt)
    assert [row["value"] for row in rows][:2] == [txt["txtvers"], "protocol version, 1.0"]
    assert f"default port is {DEFAULT_PORT}" in section("10.1")


def test_the_points_and_strings_of_pairing_are_those_of_the_code() -> None:
    for point in (ParamsEd25519.M, ParamsEd25519.N):
        assert f"`{point.to_bytes().hex()}`" in section("10.2")
    for role in (pairing._JOINER, pairing._INVITER):
        assert f"`{(pairing._PAIRING + b' ' + role).decode()}` ‖ handshake hash" in section("10.2")


# -- §11, §12 ----------------------------------------------------------------------------------------------------------
def test_the_protocol_version_is_that_of_the_code() -> None:
    assert f"# The echonode protocol, version {'.'.join(map(str, m.PROTOCOL_VERSION))}\n" in TEXT
    assert f"*Protocol version* {list(m.PROTOCOL_VERSION)}" in section("11")


# Bounds that a node keeps by itself: a peer cannot notice them.
LOCAL = {
    "KIB MIB CONNECTIONS_MAX SEND_QUEUE_BYTES_MAX",
    "EVENTS_WAITING_MAX EVENTS_WAITING_BYTES_MAX CHANGES_BYTES_MAX CHANGES_WAIT_S_MAX SYNC_JOBS_MAX",
    "IMPORT_SHARED_RECORDS SHARED_FOR_S",
    "STORE_CALLS_WAITING_MAX CANDIDATES_MAX DIALS_MAX DIAL_TIMEOUT_S BACKOFF_S CHANGE_DELAY_S COMPARE_INTERVAL_S",
    "RELAY_FANOUT WRITE_FANOUT VERIFY_CHUNK HISTORY_DAYS HISTORY_ROWS_MAX FREE_SPACE_BYTES_MIN CURSORS_MAX",
    "FREE_SPACE_BYTES_MAX FREE_SPACE_SHARE CURSOR_STEP",
    "HISTORY_BYTES_MAX LEAF_HISTORY_MAX CONTEXTS_HELD_MAX",
    "BALLAST_BYTES LOG_LINES_PER_S LOG_LINE_BYTES_MAX PEER_TEXT_CHARS_MAX SKETCHES_MAX JOURNAL_LEAVES_MAX",
    "ROOTS_DELAY_S ANNOUNCE_DELAY_S RECENT_VERSIONS_MAX LINK_RETRY_S LINK_RENEWAL_S FORKS_REMEMBERED MEET_AT_ONCE",
    "MEET_INTERVAL_S REFUSALS_KEPT REQUEST_RETRY_S BULK_WAIT_S SCHEDULE_INTERVAL_S ROOTS_INTERVAL_S FILTERED_SETS_MAX",
    "FILTERED_ITEMS_MAX FILTERED_PAGE_MAX WORK_BURST_S WORK_SHARE WORK_WAIT_S_MAX",
    "CLOSED_AUTHORS_MAX QUOTA_REOPENED_AT PEER_RATE_BURST_S",
    "LOST_BACKOFF_S LOST_BACKOFF_SHARE LOST_AT_ONCE",
    "STATIC_BACKOFF_S STATIC_REPORT_S STATIC_DIALS_MAX MISLEADING_ADDRESS_S KNOWN_ADDRESSES_MAX SEEN_SAVED_S",
    "PEER_GONE_DAYS COPIES_MAX COPY_SHOWN_S HANDSHAKES_REPORT_S PAIRS_REMEMBERED",
    "RECONCILES_MAX LOG_QUEUE_BYTES_MAX ROOTS_DELAY_MANY_S SUSPECT_S LINK_TICK_S LINK_PING_TICKS LINK_SILENCE_TICKS",
    "SILENT_S WRITE_S_MAX RESTORED_WAIT_S OWN_IDS_KEPT API_CONNECTIONS_MAX API_HEAD_TIMEOUT_S",
    "SYNC_ATTEMPT_S SYNC_HISTORY_MAX SYNC_ATTEMPTS_MAX SYNC_PRIORITY_MAX SYNC_BATCH_MAX",
    "POOLS_MAX LOG_RING_LINES LOG_PEERS_MAX TRACED_SESSIONS_MAX TRACED_MESSAGES",
    "PAGE_TICKET_S PAGE_SESSION_S PAGE_SESSIONS_MAX",
    "PAST_NETWORKS_BYTES_MAX CLAIM_ANSWERS_MAX COUNTER_ANSWERS_MAX",
    "ACTIVITY_SLOT_S ACTIVITY_SLOTS_MAX ACTIVITY_DAY_SLOT_S ACTIVITY_DAY_SLOTS_MAX",
}


def test_the_limits_are_those_of_the_code_and_all_of_them() -> None:
    constants = {name: value for name, value in vars(limits).items() if name.isupper()}
    local = set(" ".join(LOCAL).split())
    rows = table("12", "what")
    named = {row["name"] for row in rows}
    assert len(named) == len(rows)
    assert not named & local
    assert set(constants) - local <= named
    for row in rows:
        numbers = [int(number.replace(",", "")) for number in re.findall(r"[0-9][0-9,]*", row["limit"])]
        value = constants[row["name"]]
        assert numbers == ([value[0], value[-1]] if isinstance(value, tuple) else [value]), row


def test_what_the_text_says_of_lists_is_what_the_file_of_shapes_says() -> None:
    shapes = (PROTO / "echonode.cddl").read_text()
    said = " ".join(section("12").split())
    for words, shape in (
        ("Offers in an Auth: 4, each statement at most 1,024 bytes", "offers: [1*4 IdentityOffer]"),
        ("32 modes", "modes: [0*32 text-200]"),
        (f"{CONTEXTS_TOLD_MAX} contexts", f"contexts: [0*{CONTEXTS_TOLD_MAX} Summary]"),
        ("64 models", "at most 64 entries"),
        ("16 instances", "seen: [0*16 Seen]"),
        ("Entries of `supported`: 32", "supported: [0*32 text-200]"),
    ):
        assert words in said and shape in shapes, words


@pytest.mark.parametrize("bound", ["262,144", "1,048,576", "4,096", "65,519", "65,536"])
def test_numbers_in_the_text_are_those_of_the_table(bound: str) -> None:
    assert TEXT.count(bound) > 1
