"""Records through the API: written, read back unchanged, listed, deleted, in conflict."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from echonode.model.heads import winner
from echonode.model.identity import Identity, IdentityId
from echonode.model.record import Draft
from echonode.text import to_base32
from tests.api.serving import run, serving
from tests.api.test_openapi import give_foreign_record
from tests.sync.pair import Author

MAIN = "/v1/records/main"


def test_what_was_put_is_got_byte_for_byte_under_its_media_type(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            body = bytes(range(256)) * 700
            put = await served.put(
                "a", body, "&type=image/x-noise&tag=b&tag=a&tag=b&model=scan@3.4&timestamp=2001-02-03"
            )
            assert put["id"] == f"{to_base32(served.node.id)}/a"
            for name in (put["id"], "me/a", "a", f"@{put['id'][:6]}/a", "@one/a"):
                got = await served.ask("GET", f"{MAIN}?id={name}")
                assert (got.body, got.headers["content-type"]) == (body, "image/x-noise")
                assert (got.headers["echo-id"], got.headers["echo-version"]) == (put["id"], put["version"])
            whole = await served.whole("a")
            assert whole["version"] == put["version"] and whole["timestamp"] == put["timestamp"]
            assert (whole["tags"], whole["model"], whole["model_version"]) == (["a", "b"], "scan", "3.4")
            assert (whole["created"], whole["heads"], whole["deleted"]) == ("2001-02-03T00:00:00.000Z", 1, False)

    run(test)


def test_another_major_of_a_model_that_is_read_here_is_refused_by_name_unless_any_will_do(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path, models={"task": (1, 2)}) as served:
            await served.put("next", "x", "&model=task@2.0")
            for name, model in (("same", "task@1.2"), ("newer", "task@1.9"), ("other", "recipe@7.0")):
                await served.put(name, "x", f"&model={model}")
                assert (await served.ask("GET", f"{MAIN}?id={name}")).body == b"x"
            for more in ("", "&whole=1", "&any_model=0"):
                refused = await served.ask("GET", f"{MAIN}?id=next{more}")
                assert (refused.status, refused.code) == (409, "unsupported_model")
                said = "it is of the model task 2.0, and here task 1.2 is read"
                assert refused.json()["error"]["message"] == said
            assert (await served.ask("GET", f"{MAIN}?id=next&any_model=1")).body == b"x"
            assert len((await served.ask("GET", f"{MAIN}/list")).lines()) == 4

    run(test)


@pytest.mark.parametrize(
    ("media_type", "body", "field", "shown"),
    [
        ("application/json", b'{"b": [1, 2.5, null], "a": "\\u00e9"}', "body", {"b": [1, 2.5, None], "a": "é"}),
        ("application/geo+json; v=1", b"17", "body", 17),
        ("application/json", b"{broken", "body", "{broken"),
        ("application/json", b"[" * 20_000, "body", "[" * 20_000),
        ("", b"", "body", ""),
        ("", "naïve\n\tüber".encode(), "body", "naïve\n\tüber"),
        ("text/plain", b'"json"', "body", '"json"'),
        ("text/plain", b"\x1b[31m", "body_base64", "G1szMW0="),
        ("text/plain", b"\xff\xfe", "body_base64", "//4="),
        ("text/plain", "\u0085".encode(), "body_base64", "woU="),
    ],
)
def test_a_body_is_shown_as_json_as_text_or_as_base64(
    tmp_path: Path, media_type: str, body: bytes, field: str, shown: object
) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a", body, f"&type={quote(media_type)}")
            whole = await served.whole("a")
            assert whole[field] == shown
            (line,) = (await served.ask("GET", f"{MAIN}/list?body=1")).lines()
            assert line == whole
            (line,) = (await served.ask("GET", f"{MAIN}/list")).lines()
            assert line == {key: value for key, value in whole.items() if key != field}

    run(test)


@pytest.mark.parametrize("media_type", ["text/htm\N{SNOWMAN}", " text/plain", "html", "a/b; c"])
def test_a_media_type_that_no_header_can_hold_becomes_octets(tmp_path: Path, media_type: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("a", b"x", f"&type={quote(media_type)}")
            got = await served.ask("GET", f"{MAIN}?id=a")
            assert (got.body, got.headers["content-type"]) == (b"x", "application/octet-stream")
            assert (await served.whole("a"))["type"] == media_type

    run(test)


@pytest.mark.parametrize("context", ["a/b", "a/list", "list", "50% näher", "?x=1", ".."])
def test_a_context_and_a_name_may_be_any_text(tmp_path: Path, context: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            path, name = f"/v1/records/{quote(context, safe='')}", "x/y z?&%\N{SNOWMAN}"
            assert (await served.ask("PUT", f"{path}?id={quote(name, safe='')}", b"1")).json()["context"] == context
            got = await served.ask("GET", f"{path}?id=me/{quote(name, safe='')}")
            assert got.body == b"1" and got.headers["echo-id"].endswith("/x/y%20z%3F%26%25%E2%98%83")
            assert [line["name"] for line in (await served.ask("GET", f"{path}/list")).lines()] == [name]
            assert context in [each["name"] for each in (await served.ask("GET", "/v1/contexts")).json()["contexts"]]

    run(test)


def test_text_typed_on_two_keyboards_is_one_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put(quote("e\u0301"), b"1", "&tag=o%CC%88")
            whole = await served.whole(quote("\u00e9"))
            assert (whole["name"], whole["tags"]) == ("\u00e9", ["\u00f6"])

    run(test)


@pytest.mark.parametrize("path", ["/v1/records/%ff", "/v1/records/%01", "/v1/records/" + "c" * 65])
def test_what_cannot_be_a_context_is_a_bad_request(tmp_path: Path, path: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for method, target in [("PUT", "?id=a"), ("GET", "?id=a"), ("POST", "/import"), ("GET", "/list")]:
                assert (await served.ask(method, path + target)).code == "bad_request"

    run(test)


@pytest.mark.parametrize(
    "query",
    [
        "id=",
        "id=a&id=b",
        "id=a&whole=yes",
        "id=%ff",
        "id=a&" + "&".join(["tag=x"] * 200),
        "id=a&color=red",
    ],
)
def test_a_query_that_is_not_understood_is_a_bad_request(tmp_path: Path, query: str) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert (await served.ask("GET", f"{MAIN}?{query}")).code == "bad_request"

    run(test)


def test_the_context_of_key_statements_cannot_be_written(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert (await served.ask("PUT", "/v1/records/identities?id=a", b"x")).code == "unusable"
            assert (await served.ask("POST", "/v1/records/identities/import", b'{"name":"a"}')).code == "bad_request"
            lines = (await served.ask("GET", "/v1/records/identities/list?body=1")).lines()
            assert {line["model"] for line in lines} == {"key-statement"}

    run(test)


def test_only_ones_own_records_and_the_shared_ones_are_written(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            author = await give_foreign_record(served)
            refused = await served.ask("PUT", f"{MAIN}?id={author}/theirs", b"mine")
            assert (refused.status, refused.code) == (422, "unusable")
            assert (await served.put("shared/todo", b"milk"))["id"] == "shared/todo"
            assert (await served.whole("shared/todo"))["author"] == "shared"

    run(test)


def test_a_deleted_record_is_not_found_and_not_listed_until_it_is_written_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            put = await served.put("a")
            gone = (await served.ask("DELETE", f"{MAIN}?id=a")).json()
            assert gone["id"] == put["id"] and gone["version"] != put["version"]
            for target in (f"{MAIN}?id=a", f"{MAIN}?id=a&whole=1"):
                answer = await served.ask("GET", target)
                assert (answer.code, answer.message) == ("not_found", "there is no record me/a in main")
            assert (await served.ask("GET", f"{MAIN}/list")).lines() == []
            assert (await served.ask("GET", f"{MAIN}/export")).lines() == []
            await served.put("a", b"again")
            assert (await served.whole("a"))["body"] == "again"

    run(test)


def test_a_list_is_chosen_by_author_tag_and_time_and_cut_at_its_limit(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            author = await give_foreign_record(served)
            for number in range(5):
                await served.put(f"n{number}", b"", f"&tag=t{number % 2}&timestamp=200{number}-06-01T12:00:00%2B02:00")

            async def names(query: str) -> list[str]:
                return [line["name"] for line in (await served.ask("GET", f"{MAIN}/list?{query}")).lines()]

            assert await names("") == ["theirs", "n0", "n1", "n2", "n3", "n4"]
            assert await names("author=me") == ["n0", "n1", "n2", "n3", "n4"]
            assert await names(f"author={author[:8]}") == ["theirs"]
            assert await names("tag=t1") == ["n1", "n3"]
            assert await names("author=me&since=2002-06-01T10:00:00Z") == ["n2", "n3", "n4"]
            assert await names("author=me&since=1022925600.5") == ["n3", "n4"]
            assert await names("author=me&limit=2") == ["n0", "n1"]
            assert await names("limit=0") == []

    run(test)


def test_an_id_that_could_be_two_authors_is_a_conflict(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            one, two = two_with_one_prefix()
            for author in (one, two):
                await author.introduce()
                record = await author.put("a")
                statements, _ = await author.store.scan("identities", 0, limit=10)
                await served.node.store.apply("identities", statements)
                await served.node.store.apply("main", [record])
            prefix = to_base32(one.identity.id)[:4]
            answer = await served.ask("GET", f"{MAIN}?id=@{prefix}/a")
            assert (answer.status, answer.code) == (409, "conflict")
            assert all(to_base32(author.identity.id) in answer.message for author in (one, two))
            assert (await served.ask("GET", f"{MAIN}/list?author={prefix}")).status == 404
            assert (await served.whole(f"{to_base32(two.identity.id)}/a"))["name"] == "a"

    run(test)


def test_a_list_takes_the_terms_of_a_filter(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            await served.put("old", b"x", "&tag=news&timestamp=2001-01-01")
            await served.put("new", b"x", "&tag=news&tag=hot")
            await served.put("shared/new", b"x", "&model=task@1.0")

            async def found(*terms: str) -> list[str]:
                query = "&".join(f"filter={quote(term)}" for term in terms)
                return [line["address"] for line in (await served.ask("GET", f"{MAIN}/list?{query}")).lines()]

            assert await found("tag=news") == ["me/old", "me/new"]
            assert await found("tag=news", "since=2h") == await found("tags=news,hot") == ["me/new"]
            assert await found("until=1d") == ["me/old"]
            assert await found("author=shared") == await found("model=task") == ["shared/new"]
            assert await found("name=ne?", "author=me") == ["me/new"]
            sender = await served.ask("GET", f"{MAIN}/list?filter=sender%3Dme")
            assert sender.status == 400 and "subscriptions" in sender.message

    run(test)


def test_a_context_is_new_once_and_an_unknown_one_is_named_beside_those_there_are(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            assert (await served.ask("GET", f"{MAIN}/list")).lines() == []
            unknown = await served.ask("GET", "/v1/records/boks/list")
            assert (unknown.status, unknown.code) == (404, "not_found")
            assert (await served.put("a", context="books"))["is_new_context"] is True
            assert (await served.put("b", context="books"))["is_new_context"] is False
            assert (await served.put("b"))["is_new_context"] is False
            unknown = await served.ask("GET", "/v1/records/boks/list")
            assert unknown.message == "there is no context boks here; there are: books, identities, main"
            served.node.subscriptions.subscribe({"films": ["tag=news"]}, served.node.addresses.resolve_in_filter)
            assert (await served.ask("GET", "/v1/records/films/list")).lines() == []

    run(test)


def test_an_address_that_means_nothing_says_what_to_write(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            answer = await served.ask("GET", f"{MAIN}?id=@two")
            assert (answer.status, answer.code) == (400, "bad_request") and "@LABEL/NAME" in answer.message
            answer = await served.ask("GET", f"{MAIN}?id=@stranger/a")
            assert (answer.status, answer.code) == (404, "not_found") and "stranger" in answer.message

    run(test)


def test_a_foreign_id_or_name_never_takes_an_own_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            foreign = await give_foreign_record(served)
            for name in (f"{foreign[:8]}/theirs", "two/theirs", "one/theirs"):
                await served.put(name, b"mine")
                assert (await served.ask("GET", f"{MAIN}?id={name}")).body == b"mine"
            addresses = {line["address"] for line in (await served.ask("GET", f"{MAIN}/list")).lines()}
            own = {f"me/{each}/theirs" for each in (foreign[:8], "two", "one")}
            assert addresses == {f"@{foreign[:8]}/theirs"} | own
            for address in addresses:
                whole = await served.whole(address)
                assert whole["address"] == address

    run(test)


def two_with_one_prefix() -> tuple[Author, Author]:
    """Return two authors whose ids begin with the same four characters: of a few thousand, two share 20 bits."""
    seen: dict[str, int] = {}
    for number in range(100_000):
        seed = number.to_bytes(4, "big")
        prefix = to_base32(IdentityId(Identity.from_seeds(b"root" * 7 + seed, b"devi" * 7 + seed).id))[:4]
        if prefix in seen:
            return Author(seen[prefix]), Author(number)
        seen[prefix] = number
    raise AssertionError("no two of them")


def test_a_conflict_shows_its_heads_the_winner_first_and_a_put_resolves_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served, serving(tmp_path, name="two") as other:
            await served.put("shared/todo", b"milk", "&type=text/plain")
            late = await other.node.records.put(
                Draft(
                    context="main",
                    author=other.node.records.shared,
                    name="todo",
                    body=b"{}",
                    media_type="application/json",
                )
            )
            statements, _ = await other.node.store.scan("identities", 0, limit=10)
            await served.node.store.apply("identities", statements)
            await served.node.store.apply("main", [late])

            (conflict,) = (await served.ask("GET", "/v1/conflicts")).json()["conflicts"]
            assert conflict == (await served.ask("GET", "/v1/conflicts?context=main")).json()["conflicts"][0]
            assert (conflict["id"], conflict["context"]) == ("shared/todo", "main")
            first, second = conflict["heads"]
            heads = await served.node.records.heads("main", late.author, "todo")
            assert first["version"] == to_base32(winner(heads).id)
            assert (first["winner"], second["winner"]) == (True, False)
            theirs, ours = sorted((first, second), key=lambda head: head["version"] != to_base32(late.id))
            assert (theirs["body"], theirs["type"]) == ({}, "application/json")
            assert (ours["body"], ours["type"]) == ("milk", "text/plain")
            assert theirs["key"] == to_base32(other.node.records.identity.device.public) != ours["key"]
            assert (await served.ask("GET", "/v1/conflicts?context=identities")).json() == {"conflicts": []}

            whole = await served.whole("shared/todo")
            assert (whole["heads"], whole["version"]) == (2, first["version"])
            lines = (await served.ask("GET", f"{MAIN}/list")).lines()
            assert [(line["heads"], line["version"]) for line in lines] == [(2, first["version"])]

            await served.put("shared/todo", b"bread")
            assert (await served.ask("GET", "/v1/conflicts")).json() == {"conflicts": []}
            assert (await served.whole("shared/todo"))["heads"] == 1

    run(test)


def test_a_list_of_large_records_is_whole(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as served:
            for number in range(30):
                await served.put(f"n{number}", json.dumps("x" * 150_000).encode(), "&type=application/json")
            lines = (await served.ask("GET", f"{MAIN}/list?body=1")).lines()
            assert [line["name"] for line in lines] == [f"n{number}" for number in range(30)]
            assert {line["body"] for line in lines} == {"x" * 150_000}

    run(test)
