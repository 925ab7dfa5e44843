"""Backlog: the work that a node still has to do, as a value. The simulator reads it to find nodes at rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echonode.model.identity import IdentityId


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The work under way in one node, counted by kind.

    A node at rest has links with nothing to do, and dials that no peer answers; everything else is zero.
    `dials`: of each dial under way, how many addresses it may try; `links`: of each link, what it has still to do.
    """

    sessions: int  # working sessions; links are not counted
    handshakes: int  # accepted streams whose peer is not known yet
    streams: int  # streams of a known peer that are no links
    partings: int  # Close messages on their way
    fills: int  # contexts that a peer is filling
    versions_asked: int  # versions that were announced and asked for
    comparisons: int  # peers to compare with behind a session, because the store changed during it
    dials: tuple[int, ...]
    links: Mapping[IdentityId, Sequence[str]]
