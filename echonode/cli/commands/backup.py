"""backup and restore: a node in one file, and a node made of that file."""

from pathlib import Path

import click

from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_line, print_note, safe, size
from echonode.cli.program import PROGRAM


@examples("backup /mnt/stick/kitchen.backup", "backup --home /srv/echo kitchen.backup")
@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False), metavar="FILE")
@pass_lookup
def backup(lookup: NodeLookup, file: str) -> None:
    """Write the records, keys and settings of this node into FILE, whether the node runs or not.

    FILE appears when it is complete: it was opened and every version in it verified. It holds the keys of this node, so
    keep it where you would keep those. For the machine's service, run this as root.
    """
    path = Path(file)
    done = lookup.services.back_up(lookup.stored_home(), path)
    print_line(str(path))
    print_note(f"{count(done.versions, 'version')} in {size(done.size_bytes)}, opened again and verified")
    print_note(f"it holds the keys of this node; to make a node of it: {PROGRAM} --home DIR restore {safe(path)}")


@examples("restore /mnt/stick/kitchen.backup", "restore --home /srv/echo kitchen.backup")
@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False), metavar="FILE")
@pass_lookup
def restore(lookup: NodeLookup, file: str) -> None:
    """Make a node of the backup FILE, in a home that has none yet: this user's, that of --home, or the service's.

    It is the node that it was, with all keys. When it runs, it fetches from its peers what it wrote since the backup,
    before it writes anything. The node that the backup was made of must not run any more.
    """
    home = lookup.stored_home()
    versions = lookup.services.restore(home, Path(file))
    print_line(str(home.root))
    print_note(f"{count(versions, 'version')} restored and verified; the node it was made of must not run any more")
    print_note("start the node: it first fetches from its peers what it wrote since the backup")
