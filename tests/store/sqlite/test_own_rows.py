"""The ids of a store's own versions, and its forks, on disk: they outlive the process, and the oldest ids go."""

from pathlib import Path

import pytest

from echonode.model.identity import Instance
from echonode.model.other_life import Fork
from echonode.model.record import MAIN, Record
from tests.contracts.store_lives import of_other_life
from tests.store.files import look, opened, run
from tests.store.people import Owner


def test_a_store_knows_its_own_versions_and_forks_after_it_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            written = await owner.put("a")
            stranger = of_other_life(owner, "b", 9)
            await store.save_fork(Fork.proven_by(stranger))
            await store.renew_instance(Instance(b"renewed!"))
            again = await owner.put("a", b"again")
        for _ in range(2):
            async with opened(path) as store:
                assert store.forks == {stranger.instance: Fork.proven_by(stranger)}
                assert store.has_signed(written) is True and store.has_signed(again) is True
                assert store.has_signed(stranger) is False
                assert (await store.apply(MAIN, [stranger])).strangers == (stranger,), "its writer is still watched"

    run(go())


def test_the_oldest_ids_go_and_what_they_were_is_not_known_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    monkeypatch.setattr("echonode.store.sqlite.transaction.OWN_IDS_KEPT", 10)

    async def go() -> None:
        async with opened(path) as store:
            owner = Owner(store)
            await owner.begin()
            written: list[Record | None] = []
            for batch in range(6):
                records, _ = await owner.write(*(owner.draft(f"{batch} {number}") for number in range(4)))
                written += records
            known = [store.has_signed(record) for record in written if record is not None]
            assert known[-10:] == [True] * 10
            assert known[:8] == [None] * 8 and set(known) == {None, True}, "whole rows go"
            assert store.has_signed(of_other_life(owner, "a", written[-1].counter)) is False  # type: ignore[union-attr]

    run(go())
    assert look(path, "SELECT count(*) FROM own") == [(3,)]
