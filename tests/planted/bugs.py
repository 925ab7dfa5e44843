"""Planted bugs: small wrong changes, each of which some test or some simulated world must catch. Run
`python -m tests.planted`.

A bug is one replacement in one file. `tests` should catch it, the nearest first. `seeds` is the number of simulated
worlds to try; it is 0 for a bug that no simulation can show (a real disk, bytes of another implementation).
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One wrong change: `wrong` replaces `right` in `file`."""

    name: str
    file: str  # path in the package
    right: str  # occurs exactly once in the file
    wrong: str
    tests: tuple[str, ...]  # paths in tests/
    seeds: int = 60


BUGS: Final = (
    # -- versions ----------------------------------------------------------------------------------------------------
    Bug(
        name="signatures are not checked",
        file="model/record.py",
        right="    if not signed._is_signed():\n",
        wrong="    if len(signed.raw) == 0:\n",
        tests=("model/test_record.py",),
    ),
    Bug(
        name="versions of any context are taken",
        file="sync/verify_apply.py",
        right="        if signed.context != context:\n",
        wrong="        if not context:\n",
        tests=("sync/test_refusing.py", "sync/test_liars.py"),
    ),
    Bug(
        name="equal vectors supersede",
        file="model/record.py",
        right="    if ours == theirs or not",
        wrong="    if newer.id == older.id or not",
        tests=("model/test_heads.py",),
    ),
    Bug(
        name="the first head wins, not the latest",
        file="model/record.py",
        right="    return max(heads, key=lambda head: (head.timestamp, head.id))\n",
        wrong="    return heads[0]\n",
        tests=("model/test_heads.py",),
    ),
    Bug(
        name="a concurrent version replaces the other heads",
        file="model/heads.py",
        right="        if any(supersedes(head, version) for head in (new_heads if is_compared else heads)):\n",
        wrong="        if heads:\n",
        tests=("model/test_heads.py",),
    ),
    Bug(
        name="a put covers only the winner",
        file="model/heads.py",
        right="    for head in sorted(heads, key=rank, reverse=True):\n",
        wrong="    for head in sorted(heads, key=rank, reverse=True)[:1]:\n",
        tests=("model/test_heads.py", "store/test_contract.py"),
    ),
    Bug(
        name="tombstones are dropped on arrival",
        file="store/merge.py",
        right="            if refused is not None:\n                plan.refused.append(refused)\n",
        wrong="            if record.is_tombstone:\n                plan.had += 1\n                continue\n"
        "            if refused is not None:\n                plan.refused.append(refused)\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="an unknown key may sign",
        file="model/keys.py",
        right="            case None:\n                return Admission.UNKNOWN\n",
        wrong="            case None:\n                return Admission.ADMITTED\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="a compromised key may sign",
        file="model/keys.py",
        right="            case KeyState.COMPROMISED:\n                return Admission.VOID\n",
        wrong="            case KeyState.COMPROMISED:\n                return Admission.ADMITTED\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="the state of a key goes back",
        file="model/keys.py",
        right="        if known is not None and known >= statement.state:\n",
        wrong="        if known is not None and known == statement.state:\n",
        tests=("model/",),
    ),
    Bug(
        name="counters start anew with every head that is read",
        file="store/merge.py",
        right="        return 1 + highest\n",
        wrong="        return max(1, highest)\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="the self-test of signatures is left out at start",
        file="app.py",
        right="        check_signatures()\n        os.umask",
        wrong="        os.umask",
        tests=("e2e/test_bad_input.py",),
        seeds=0,
    ),
    # -- a second life -----------------------------------------------------------------------------------------------
    Bug(
        name="a copy of the link is taken for the link",
        file="store/sqlite/life.py",
        right="    return None if any(stamp.is_of(life.stamp) for stamp in stamps) else SecondLife.NEW_LINK\n",
        wrong="    return None\n",
        tests=("store/sqlite/test_life.py", "store/sqlite/test_life_watch.py"),
        seeds=0,
    ),
    Bug(
        name="a database older than what was written beside it goes on",
        file="store/sqlite/life.py",
        right="    if count > marks.written:\n        return SecondLife.OLDER\n",
        wrong="",
        tests=("store/sqlite/test_life.py",),
        seeds=0,
    ),
    Bug(
        name="a second life writes under the instance of the first",
        file="store/sqlite/life_watch.py",
        right="                if why is not None:\n                    connection.execute",
        wrong="                if why is None and is_new:\n                    connection.execute",
        tests=("store/sqlite/test_life_watch.py",),
        seeds=0,
    ),
    Bug(
        name="a clean close leaves no mark",
        file="store/sqlite/plan.py",
        right="        transaction.renews_life = True\n",
        wrong="",
        tests=("store/sqlite/test_life_watch.py",),
        seeds=0,
    ),
    Bug(
        name="own writes leave no mark",
        file="store/sqlite/plan.py",
        right="        transaction.own_writes += len(signed)\n",
        wrong="",
        tests=("store/sqlite/test_life_watch.py",),
        seeds=0,
    ),
    # -- clocks ------------------------------------------------------------------------------------------------------
    Bug(
        name="the clock follows any timestamp, however far ahead",
        file="clock.py",
        right="        if is_ahead(seen, now_ms):\n            return False\n",
        wrong="",
        tests=("foundation/",),
    ),
    Bug(
        name="timestamps may stand still",
        file="clock.py",
        right="Timestamp(max(self._latest + 1, now_ms << _LOGICAL_BITS))",
        wrong="Timestamp(max(self._latest, now_ms << _LOGICAL_BITS))",
        tests=("foundation/",),
    ),
    # -- the tree ----------------------------------------------------------------------------------------------------
    Bug(
        name="digests are XORed",
        file="model/merkle.py",
        right='        children = b"".join([_digest(child) for child in node.children])\n',
        wrong="        children = bytes(32)\n        for child in node.children:\n"
        "            children = bytes(a ^ b for a, b in zip(children, _digest(child), strict=True))\n",
        tests=("model/test_merkle.py",),
    ),
    Bug(
        name="the count is not hashed in",
        file="model/merkle.py",
        right='digest(NODE, node.count.to_bytes(8, "big") + children)',
        wrong="digest(NODE, children)",
        tests=("model/test_merkle.py",),
    ),
    Bug(
        name="paths are not marked dirty",
        file="model/merkle.py",
        right="            branch.digest = None\n            branch.count += added\n",
        wrong="            branch.count += added\n",
        tests=("model/test_merkle.py",),
    ),
    Bug(
        name="a state depends on the order of the heads",
        file="model/merkle.py",
        right='digest(STATE, b"".join(sorted(head_ids)))',
        wrong='digest(STATE, b"".join(head_ids))',
        tests=("model/test_merkle.py",),
    ),
    # -- conversations -----------------------------------------------------------------------------------------------
    Bug(
        name="the initiator believes any root of the responder",
        file="sync/agreement.py",
        right="            if theirs == ours.root:  # the responder ends here, even if this side has written since\n"
        "                return Result.EQUAL if theirs == self._root() else Result.MOVED\n",
        wrong="            if theirs:\n                return Result.EQUAL\n",
        tests=("sync/test_liars.py",),
    ),
    Bug(
        name="the responder repeats the root that it is told",
        file="sync/done.py",
        right="    ours = done_of(conversation, is_final=is_final)\n",
        wrong="    ours = Done(theirs.root, 0, 0, is_final)\n",
        tests=("sync/",),
    ),
    Bug(
        name="nothing is pushed",
        file="sync/agreement.py",
        right="        if not keys and not difference.our_prefixes:\n            return False\n",
        wrong="        if keys or not difference.our_prefixes:\n            return False\n",
        tests=("sync/test_executors.py",),
    ),
    Bug(
        name="an answer may repeat records for ever",
        file="sync/answer_check.py",
        right="            if (record.key, record.id) <= self._last[prefix]:\n",
        wrong="            if record.key < self._last[prefix][0]:\n",
        tests=("sync/test_answer_check.py", "sync/test_liars.py"),
    ),
    Bug(
        name="a snapshot is taken as it comes",
        file="store/memory.py",
        right="        if expected is not None and staged.root != expected:\n            return None\n",
        wrong="",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="a resumed snapshot goes on behind a record whose heads were cut apart",
        file="sync/modes/snapshot.py",
        right='LeafKey((number - 1).to_bytes(32, "big")) if number else None',
        wrong='LeafKey(number.to_bytes(32, "big")) if number else None',
        tests=("sync/modes/test_resuming.py",),
    ),
    Bug(
        name="a snapshot resumes at a peer with another root",
        file="sync/modes/snapshot.py",
        right="is_wanted, has_shown = reader.stamp.root == self._root, False",
        wrong="is_wanted, has_shown = True, False",
        tests=("sync/modes/test_resuming.py",),
    ),
    Bug(
        name="a new snapshot drops the records that an earlier one staged",
        file="sync/modes/snapshot.py",
        right="        await merge_left_over(conversation)  # before",
        wrong="        pass  # before",
        tests=("sync/modes/test_resuming.py",),
    ),
    Bug(
        name="a decoded sketch counts as equal without a comparison of roots",
        file="sync/modes/sketch.py",
        right="return _result_of(conversation, theirs.root) if theirs.root == ours.root else None",
        wrong="return Result.EQUAL",
        tests=("sync/modes/test_sketch.py",),
    ),
    Bug(
        name="symbols of two states of a set are decoded together",
        file="sync/modes/sketch.py",
        right="sent if needed > sent and sketch.symbols(0, sent) == self._sent else 0",
        wrong="sent if needed > sent else 0",
        tests=("sync/modes/test_sketch.py",),
    ),
    Bug(
        name="a stream that ends without a close counts as a good end",
        file="sync/transport.py",
        right='                raise TransportError("the stream ended without a close")\n',
        wrong="                raise PeerRefused(Reason.FINISHED)\n",
        tests=("sync/test_transport.py",),
    ),
    Bug(
        name="a silent peer is waited for without end",
        file="sync/transport.py",
        right="            timeout_s = IDLE_TIMEOUT_S\n",
        wrong="            timeout_s = IDLE_TIMEOUT_S * 1_000_000\n",
        tests=("sync/test_transport.py",),
    ),
    # -- the channel -------------------------------------------------------------------------------------------------
    Bug(
        name="AUTH signs no role",
        file="wire/auth.py",
        right="    role = _INITIATOR if is_initiator else _RESPONDER\n",
        wrong="    role = _INITIATOR if is_initiator else _INITIATOR\n",
        tests=("wire/test_auth.py",),
        seeds=0,
    ),
    Bug(
        name="AUTH's signature is not checked",
        file="wire/auth.py",
        right="        if not is_signed(message, offered.signature, PublicKey(offered.key)):\n",
        wrong="        if not offered.signature:\n",
        tests=("wire/test_auth.py",),
        seeds=0,
    ),
    Bug(
        name="the length of a frame has no bound",
        file="wire/frame.py",
        right="        if not 0 < length <= limit:\n",
        wrong="        if not 0 < length:\n",
        tests=("wire/test_frame.py",),
    ),
    Bug(
        name="a frame's length is not authenticated",
        file="wire/frame.py",
        right="        self._ad = header\n",
        wrong='        self._ad = b""\n',
        tests=("wire/test_frame.py",),
    ),
    Bug(
        name="keys are never renewed",
        file="wire/frame.py",
        right="    if cipher.n % REKEY_MESSAGES == 0:\n",
        wrong="    if cipher.n < 0:\n",
        tests=("wire/",),
        seeds=0,
    ),
    Bug(
        name="the code of an invitation may be guessed at without end",
        file="wire/pairing.py",
        right="        self.tries_left -= 1\n",
        wrong="        self.tries_left -= 0\n",
        tests=("wire/test_pairing.py",),
        seeds=0,
    ),
    Bug(
        name="map keys may come twice",
        file="cbor.py",
        right="        if encoded <= before:\n",
        wrong="        if encoded < before:\n",
        tests=("foundation/",),
        seeds=0,
    ),
    Bug(
        name="numbers may be written in long forms",
        file="cbor.py",
        right="        if argument < least:\n",
        wrong="        if argument < 0:\n",
        tests=("foundation/",),
        seeds=0,
    ),
    # -- when, and with whom -----------------------------------------------------------------------------------------
    Bug(
        name="a failed dial is tried again at once",
        file="node/peer_table.py",
        right="now_s + self._backoff.redial_s(target.attempt)\n",
        wrong="now_s\n",
        tests=("node/test_scheduler.py",),
    ),
    Bug(
        name="false sightings delay the address that answered",
        file="node/scheduler.py",
        right="    return not target.has_answered, at_s, target.not_before_s\n",
        wrong="    return False, at_s, target.not_before_s\n",
        tests=("node/test_scheduler.py",),
    ),
    Bug(
        name="a pinned name may belong to another identity",
        file="node/admission.py",
        right="        if pinned is None or pinned == peer:\n",
        wrong="        if pinned is None or pinned != name:\n",
        tests=("node/test_admission.py",),
    ),
    Bug(
        name="a store that was put back goes on under the same writer",
        file="node/admission.py",
        right="        return hello.seen.get(instance, 0) > ours\n",
        wrong="        return hello.seen.get(instance, 0) > 2 * ours + 1000\n",
        tests=("node/test_admission.py",),
    ),
    # -- following ---------------------------------------------------------------------------------------------------
    Bug(
        name="a cursor passes a version that was only announced",
        file="sync/live/receiver.py",
        right="        may_move_cursor = progress.is_whole and not progress.waiting and not message.announced\n",
        wrong="        may_move_cursor = progress.is_whole\n",
        tests=("sync/live/test_link.py", "node/test_live_links.py"),
    ),
    Bug(
        name="a cursor of another life of the peer's store is kept",
        file="store/cursors.py",
        right="    return known is not None and known.instance == cursor.instance and known.seq >= cursor.seq\n",
        wrong="    return known is not None and known.seq >= cursor.seq\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="a version that comes too late to be a head is asked for for ever",
        file="sync/live/receiver.py",
        right="        if len(applied.records) < len(records):\n",
        wrong="        if not records:\n",
        tests=("sync/live/test_link.py",),
    ),
    Bug(
        name="a link is called equal though the peer does not know a context",
        file="sync/live/receiver.py",
        right="        if any(context not in self._progress and takes(context) ",
        wrong="        if any(context is None ",
        tests=("sync/live/test_link.py",),
    ),
    Bug(
        name="different roots on a quiet link are ignored",
        file="sync/live/receiver.py",
        right="        elif not progress.waiting and self._sender.has_told_all(theirs.context):\n",
        wrong="        elif not progress.waiting and progress.told < 0:\n",
        tests=("sync/live/test_link.py", "node/test_live_links.py"),
    ),
    Bug(
        name="the cursor of a link runs ahead of the stored versions",
        file="sync/live/receiver.py",
        right="            self._environment.note_followed(context, progress.stored)\n",
        wrong="            self._environment.note_followed(context, progress.told)\n",
        tests=("sync/live/test_link.py",),
    ),
    Bug(
        name="a cursor beyond the peer's log is kept",
        file="node/admission.py",
        right="        store.set_back(peer.id, {summary",
        wrong="        dict[str, int]().update({summary",
        tests=("node/test_live_links.py",),
    ),
    Bug(
        name="a version written by a copy of the store counts as written here",
        file="node/record_book.py",
        right="        return record.instance == self.store.instance and ",
        wrong="        return record.instance != self.store.instance and ",
        tests=("node/test_admission.py",),
        seeds=0,
    ),
    Bug(
        name="a pull is called equal though claimed records did not come",
        file="sync/modes/reconcile.py",
        right="theirs == self._expected and not self._is_owed else",
        wrong="theirs == self._expected else",
        tests=("sync/modes/test_reconcile.py",),
        seeds=0,
    ),
    Bug(
        name="a part that was asked for in vain is called equal",
        file="node/session_report.py",
        right="                if subscriptions.is_open(session.peer.id, context):\n",
        wrong="                if not context:\n",
        tests=("node/test_subscriptions.py",),
    ),
    Bug(
        name="conversations that bring the same records do not wait for each other",
        file="node/bulk_gate.py",
        right="        is_alone = await self._wait_for(queue)\n",
        wrong="        is_alone = False\n",
        tests=("node/test_bulk_gate.py",),
        seeds=0,
    ),
    Bug(
        name="the same records are fetched without end",
        file="sync/responder.py",
        right="        self._leaves_sent += read\n",
        wrong="        self._leaves_sent = read\n",
        tests=("sync/test_liars.py",),
        seeds=0,
    ),
    Bug(
        name="more versions are asked for than were announced",
        file="sync/live/sender.py",
        right="        if self._announced < 0:\n",
        wrong="        if self._announced is None:\n",
        tests=("sync/live/test_link.py",),
        seeds=0,
    ),
    # -- the disk ----------------------------------------------------------------------------------------------------
    Bug(
        name="a superseded version stays in the change log",
        file="store/memory.py",
        right="                self._log.pop(self._seq_of.pop(version.id))\n",
        wrong="                self._seq_of.pop(version.id)\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="the change log loses records without a history",
        file="store/memory.py",
        right="            leaves[key] = [merge.moves[0].record]\n            self._append(merge.moves[0].record)\n",
        wrong="            leaves[key] = [merge.moves[0].record]\n",
        tests=("store/test_contract.py",),
    ),
    Bug(
        name="commits are not synced to disk",
        file="store/sqlite/connection.py",
        right='    "PRAGMA synchronous = FULL",\n',
        wrong='    "PRAGMA synchronous = NORMAL",\n',
        tests=("faults/", "store/sqlite/test_files.py"),
        seeds=0,
    ),
)
