"""The status page in a real browser: it signs in by a link, tells the truth, resolves a conflict and invites; and
nothing that another node wrote becomes markup.
"""

import json
from pathlib import Path

import pytest

from tests.e2e.browser import DRIVER, browser
from tests.e2e.processes import NodeProcess, code_in, equal, running, wait_for

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.mark.skipif(DRIVER is None, reason="no chromedriver")
def test_the_page_signs_in_by_a_link_shows_the_truth_and_resolves_a_conflict(tmp_path: Path) -> None:
    names = {"here": "here", "there": "<b>there</b>", "third": "third"}
    here, there, third = [NodeProcess(tmp_path / home, name, mdns=False) for home, name in names.items()]
    nodes = [here, there]
    for _ in running([here, there, third]):
        here.start()
        there.start("--join", code_in(here.cli("invite").stdout.decode()), "--peer", here.address())
        wait_for(lambda: equal(nodes, "identities"))
        met_at = here.address()
        there.stop()
        here.cli("put", "shared/plan", json.dumps({"day": "Monday", "note": HOSTILE}))
        here.stop()
        there.start()
        there.cli("put", "shared/plan", json.dumps({"day": "Tuesday", "note": HOSTILE}))
        here.start("--peer", there.address(), listen=met_at)
        wait_for(lambda: equal(nodes, "main", "identities"))

        link = json.loads(here.cli("open", "--json").stdout)["url"]
        with browser(tmp_path / "profile") as page:
            page.open(link)
            wait_for(lambda: page.text("#verdict") == "Equal with 1 node: all that are known. 1 record in conflict.")
            assert page.value_of("return location.hash") == ""
            assert page.text("h1") == "here"
            assert "<b>there</b>" in page.text("#peers") and "<b>there</b>" in page.text("#graph")
            sides = page.texts("#conflicts pre")
            assert len(sides) == 2 and all(HOSTILE[:9] in side for side in sides)
            page.screenshot("conflict")
            chosen = next(place for place, side in enumerate(sides) if "Monday" in side)
            page.click("#conflicts .side button", chosen)
            wait_for(lambda: not here.json("conflicts")["conflicts"])
            wait_for(lambda: page.text("#verdict") == "Equal with 1 node: all that are known.")
            assert b"Monday" in here.cli("get", "shared/plan").stdout

            assert "sync.completed" in page.text("#log") and page.texts("#syncs tbody tr")  # from before the page
            points = page.value_of("return document.querySelector('#records-plot polyline').getAttribute('points')")
            assert points and " now, " in page.text("#conversations-plot-now")
            page.click("#show-day")
            assert page.texts(".axis span:first-child")[0] == "1 day ago"
            page.screenshot("activity")

            there.cli("put", "news", "read all about it")
            wait_for(lambda: "records.applied" in page.text("#log"))
            page.click("#sync")
            wait_for(lambda: page.text("#sync-result") == "verified")
            page.click("#invite")
            code = wait_for(lambda: page.text("#code"))
            page.screenshot("invitation")
            third.start("--join", code, "--peer", here.address())
            wait_for(lambda: "Equal with 2 nodes" in page.text("#verdict"))
            assert page.value_of("return document.title") == "here · echonode"
            assert page.value_of("return document.querySelectorAll('img, b, iframe').length") == 0
            assert page.console() == []

            there.signal(9)
            wait_for(lambda: "<b>there</b>:" in page.text("#verdict"))

        with browser(tmp_path / "other", "--blink-settings=preferredColorScheme=0") as page:
            page.open(link)
            wait_for(lambda: "used before" in page.text("#signin-why"))
            page.write("#token", "wrong")
            page.click("#signin-form button")
            wait_for(lambda: "session ended" in page.text("#signin-why"))
            page.write("#token", json.loads(here.cli("api", "token", "--json").stdout)["token"])
            page.click("#signin-form button")
            wait_for(lambda: page.text("h1") == "here")
            page.screenshot("dark")
            here.cli("api", "token", "--new")
            wait_for(lambda: page.text("#verdict") == "Nobody is signed in.")
