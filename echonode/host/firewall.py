"""The firewall of this machine that may keep other nodes out. A hint: only another machine can tell for sure."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

_MDNS_PORT: Final = 5353
_TIMEOUT_S: Final = 5.0
_UFW: Final = Path("/etc/ufw/ufw.conf")
_FIREWALLD: Final = Path("/run/firewalld")


def firewall_hint(port: int) -> tuple[str, str] | None:
    """Return what may keep others from TCP `port` or from mDNS here, and what to type; None when nothing is seen."""
    try:
        is_ufw = re.search(r"(?m)^ENABLED=yes", _UFW.read_text()) is not None
    except OSError:
        is_ufw = False
    if is_ufw:
        return "ufw is on", f"sudo ufw allow {port}/tcp && sudo ufw allow {_MDNS_PORT}/udp"
    if _FIREWALLD.is_dir():
        add = f"--add-port={port}/tcp --add-service=mdns"
        return "firewalld is on", f"sudo firewall-cmd --permanent {add} && sudo firewall-cmd --reload"
    return _nftables_hint(port)


def _nftables_hint(port: int) -> tuple[str, str] | None:
    """Read the rules of nftables, which only root may."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return None
    try:
        rules = subprocess.run(
            ["nft", "list", "ruleset"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return read_rules(rules, port)


def read_rules(rules: str, port: int) -> tuple[str, str] | None:
    """Return the hint that the text of `nft list ruleset` gives, None for rules that keep neither port out."""
    for number, transport in ((port, "tcp"), (_MDNS_PORT, "udp")):
        dropped = re.search(rf"(?m)^.*\b{transport} dport\b[^\n]*\b{number}\b[^\n]*\b(?:drop|reject)\b.*$", rules)
        if dropped:
            return (
                f"nftables keeps {transport.upper()} port {number} out: {dropped[0].strip()}",
                "take that rule away: nft -a list ruleset shows its handle",
            )
    is_closed = re.search(r"hook input [^\n]*policy drop", rules)
    is_opened = re.search(rf"\btcp dport\b[^\n]*\b{port}\b[^\n]*\baccept\b", rules)
    if is_closed and not is_opened:
        return (
            "nftables drops what no rule accepts",
            f"accept tcp dport {port} and udp dport {_MDNS_PORT} in the chain of hook input",
        )
    return None
