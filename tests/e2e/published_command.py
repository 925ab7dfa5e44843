"""The command `tushell echo-sync` as it is published, in a process of its own, mended where it could reach no server.

    stdin    one JSON value: [{"args": [..], "data": {..}}, ..]; `data` is the local state that a push sends
    stdout   one JSON value: the output of each run

Version 0.2.22 hands its client two arguments that the client does not know, asks it for a list of nodes that it does
not have, and fetches its local state from an address that nothing serves. Everything else is its own code.
"""

import json
import sys
from typing import Any

import requests
from click.testing import CliRunner
from tushell import tushellcli
from tushell.echo_sync_client import EchoSyncClient


class MendedClient(EchoSyncClient):
    """The published client, with the arguments and the call that the published command uses."""

    def __init__(self, api_url: str, token: str, retry_count: int, timeout: int) -> None:
        super().__init__(api_url, token)

    def get_nodes(self, pattern: str | None) -> Any:
        url = f"{self.api_url}/api/v1/echo-sync/nodes"
        answer = requests.get(url, params={"pattern": pattern} if pattern else {}, headers=self.headers, timeout=60)
        answer.raise_for_status()
        return answer.json()


def run(args: list[str], data: dict[str, Any]) -> str:
    """Return what the command prints."""
    tushellcli.EchoSyncClient = MendedClient
    tushellcli.fetch_echonode_data = lambda: data
    tushellcli.emit_live_reports = lambda: None
    return CliRunner().invoke(tushellcli.echo_sync, args).output


if __name__ == "__main__":
    said = [run(each["args"], each["data"]) for each in json.load(sys.stdin)]
    json.dump(said, sys.stdout)
