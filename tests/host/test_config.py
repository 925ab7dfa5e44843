"""Settings from file, environment and flags, and the messages for those that cannot be used."""

import re
import unicodedata
from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host import config
from echonode.host.config import (
    ApiConfig,
    AuditConfig,
    BackupConfig,
    Config,
    LogConfig,
    QuotaConfig,
    TrustConfig,
    changed_keys,
    explain,
    load_config,
    reloaded,
    trust_decisions,
)
from echonode.model.identity import IdentityId
from echonode.node.trust import Decisions
from echonode.text import to_base32

IDS = [IdentityId(bytes(range(start, start + 32))) for start in (0, 32, 64)]
FIRST, SECOND, THIRD = map(to_base32, IDS)


def loaded(tmp_path: Path, text: str, environ: dict[str, str] | None = None, **flags: object) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_config(path, environ or {}, flags)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config(tmp_path / "none.toml", {}, {}) == Config()
    assert Config() == Config(
        name=None,
        listen=None,
        peers=(),
        interfaces=None,
        mdns=True,
        open=False,
        contexts=None,
        models=(),
        subscriptions={},
        api=ApiConfig(group=None),
        log=LogConfig(level="info", format="auto"),
    )


def test_the_example_in_the_documentation_loads_and_shows_every_key(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", config.__doc__ or "", re.DOTALL)
    assert example is not None
    assert loaded(tmp_path, example[1]) == Config(
        name="kitchen",
        listen="0.0.0.0:22087",
        peers=("192.168.1.20:22087",),
        interfaces=("192.168.1.10",),
        contexts=("main",),
        models=("task@1.2",),
        subscriptions={"main": ("tag=news", "since=2026-01-01")},
        echo_author="me",
        api=ApiConfig(group="echonode", listen="127.0.0.1:22088"),
        backup=BackupConfig(every="1d", keep=7, folder="/mnt/backups"),
        quota=QuotaConfig(
            author_records=100_000,
            author_bytes=10**9,
            author_tombstones=50_000,
            records=10**6,
            bytes=10**10,
            tombstones=500_000,
            peer_rate=2000,
        ),
        trust=TrustConfig(policy="approve", approve=(FIRST,), reject=(SECOND,), deny=(THIRD,)),
    )
    shown = set(re.findall(r"^\[?(\w+)(?: =|\])", example[1], re.MULTILINE))
    tables = (Config, ApiConfig, BackupConfig, AuditConfig, QuotaConfig, TrustConfig, LogConfig)
    assert shown == {"main", *(name for table in tables for name in table.__struct_fields__)}


def test_what_the_configuration_decides_about_nodes_is_by_whole_ids(tmp_path: Path) -> None:
    text = '[trust]\nallow = ["x"]\n'
    with pytest.raises(ConfigError, match="there is no setting 'allow' in the table trust"):
        loaded(tmp_path, text)
    config = loaded(tmp_path, f'[trust]\ndeny = ["{FIRST}", "{SECOND}"]\n', {"ECHO_TRUST_APPROVE": f"{FIRST}, {THIRD}"})
    assert trust_decisions(config.trust) == Decisions({IDS[0]: "", IDS[2]: ""}, {}, {IDS[0]: "", IDS[1]: ""})
    for wrong, why in (
        ('policy = "closed"', "trust.policy: open or approve is expected"),
        (f'deny = ["{FIRST[:8]}"]', "trust.deny: 'aaaqeaye' is no id: `echonode peers --json` shows whole ones"),
        (f'approve = ["{FIRST}"]\nreject = ["{FIRST}"]', f"trust.reject: {FIRST} stands under trust.approve too"),
    ):
        with pytest.raises(ConfigError, match=re.escape(why)):
            loaded(tmp_path, f"[trust]\n{wrong}\n")


def test_a_flag_goes_before_the_environment_that_before_the_file_and_that_before_the_default(tmp_path: Path) -> None:
    text = 'name = "file"\npeers = ["file:1"]\nopen = true\n[log]\nlevel = "debug"\nformat = "json"\n'
    assert loaded(tmp_path, text).name == "file"
    environ = {"ECHO_NAME": "environ", "ECHO_PEERS": "environ:1, other:2", "ECHO_LOG_LEVEL": "error", "ECHO_OPEN": "no"}
    mixed = loaded(tmp_path, text, environ, name="flag", peers=("flag:1",), mdns=False, listen=None, interfaces=())
    assert mixed == Config(
        name="flag", peers=("flag:1",), mdns=False, open=False, log=LogConfig(level="error", format="json")
    )
    assert loaded(tmp_path, text, environ).peers == ("environ:1", "other:2")
    assert loaded(tmp_path, text, {"ECHO_NAME": ""}).name == "file"
    assert loaded(tmp_path, "", {}, **{"log.format": "console"}).log.format == "console"


def test_names_are_normalised_so_that_the_same_name_is_the_same_context(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    assert loaded(tmp_path, f'name = "{decomposed}"\ncontexts = ["{decomposed}"]') == Config(
        name="café", contexts=("café",)
    )


def test_a_subscription_is_terms_by_context_and_a_variable_holds_none(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    text = f'[subscriptions]\n"{decomposed}" = ["author=me", "pool=shared", "tag=x"]'
    assert loaded(tmp_path, text, {"ECHO_SUBSCRIPTIONS": "x"}).subscriptions == {
        "café": ("author=me", "pool=shared", "tag=x")
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nmae = 'x'", "there is no setting 'nmae'"),
        ("[log]\nlvl = 'x'", "there is no setting 'lvl' in the table log"),
        ("name = 7", "name: a text is expected"),
        ("name = ''", "name: 1 to 64 bytes"),
        ("name = 'a\\u0007'", "name: 1 to 64 bytes"),
        (f"name = '{'x' * 65}'", "name: 1 to 64 bytes"),
        ("listen = 22087", "listen: an address like '0.0.0.0:22087' is expected"),
        ("listen = '0.0.0.0'", "listen: '0.0.0.0' is not an address"),
        ("peers = 'a:1'", "peers: a list of addresses"),
        ("peers = [1]", "peers: a list of addresses"),
        ("peers = ['a:1', 'a']", "peers: 'a' is not an address"),
        ("peers = ['a:0']", "peers: 'a:0' has no port to dial"),
        ("interfaces = ['eth0']", "interfaces: an IP address of this machine is expected, not 'eth0'"),
        ("mdns = 'yes'", "mdns: true or false is expected"),
        ("contexts = []", "contexts: 1 to 64 different names"),
        (f"contexts = {[f'c{n}' for n in range(65)]}", "contexts: 1 to 64 different names"),
        (f"contexts = ['{'x' * 65}']", f"contexts: '{'x' * 65}' is no context: 1 to 64 bytes"),
        ("listen = '[::]:65536'", "listen: '[::]:65536' is not an address"),
        ("contexts = ['a', 'a']", "contexts: 1 to 64 different names"),
        ("contexts = ['']", "contexts: '' is no context"),
        ("contexts = ['identities']", "contexts: 'identities' is reserved"),
        ("models = 'task@1.0'", "models: a list of models like 'task@1.2'"),
        ("models = ['task']", "models: 'task' is no model like 'task@1.2'"),
        ("models = ['task@1']", "models: 'task@1' is no model"),
        ("models = ['@1.0']", "models: '@1.0' is no model"),
        ("models = ['task@1.0', 'task@2.0']", "models: up to 64 models are expected, each once"),
        (f"models = {[f'm{n}@1.0' for n in range(65)]}", "models: up to 64 models are expected, each once"),
        ("models = ['task@1.65536']", "models: major and minor are at most 65535"),
        ("subscriptions = ['tag=a']", "subscriptions: a table of contexts"),
        ("[subscriptions]\nmain = 'tag=a'", "subscriptions: a table of contexts"),
        ("[subscriptions]\nmain = [1]", "subscriptions: a table of contexts"),
        ("[subscriptions]\nmain = ['news']", "subscriptions: main: 'news' is no term of a filter"),
        ("[subscriptions]\nmain = ['author=abc']", "subscriptions: main: 'abc' is no id"),
        ("[subscriptions]\nidentities = []", "subscriptions: 'identities' is always kept whole"),
        ("contexts = ['a']\n[subscriptions]\nb = []", "subscriptions: 'b' is not among the contexts"),
        ("[subscriptions]\n'' = []", "subscriptions: '' is no context"),
        ("open = true\n[subscriptions]\nmain = ['pool=shared']", "subscriptions: the open network has no `shared`"),
        ("api = 'all'", "api: a table is expected"),
        ("[api]\ngroup = 7", "api.group: the name of a group is expected"),
        ("[api]\ngroup = ''", "api.group: the name of a group is expected"),
        ("echo_author = 'you'", "echo_author: shared or me is expected"),
        ("open = true\necho_author = 'shared'", "echo_author: the open network has no `shared` records"),
        ("[api]\nlisten = 7", "api.listen: an address like '127.0.0.1:22088', or 'off', is expected"),
        ("[api]\nlisten = '0.0.0.0:1'", "api.listen: '0.0.0.0:1' is not this machine alone"),
        ("[api]\nlisten = 'on'", "api.listen: 'on' is not an address"),
        ("log = 'debug'", "log: a table is expected"),
        ("[log]\nlevel = 'loud'", "log.level: one of debug, info, warning and error is expected"),
        ("[log]\nformat = 'xml'", "log.format: one of auto, json and console is expected"),
    ],
)
def test_a_wrong_setting_is_named_with_its_file_and_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text.replace("'", '"'))
    assert str(caught.value).startswith(f"{tmp_path / 'config.toml'}: {said}")


def test_a_file_that_is_no_configuration_is_named(tmp_path: Path) -> None:
    for text, said in (("name = ", "is not TOML: Invalid value"), ("#" * 300_000, "is larger than 256 KiB")):
        with pytest.raises(ConfigError, match=said):
            loaded(tmp_path, text)
    for data, line in ((b"\xff", 1), ('name = "a"\nlisten = ""'.encode("utf-16"), 1), (b'name = "a"\n# k\xfcche', 2)):
        (tmp_path / "config.toml").write_bytes(data)
        with pytest.raises(ConfigError, match=rf"is not UTF-8 text \(line {line}\): save it as UTF-8$"):
            load_config(tmp_path / "config.toml", {}, {})
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load_config(tmp_path, {}, {})


def test_a_byte_order_mark_and_line_ends_of_another_system_are_read_over(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'\xef\xbb\xbfname = "kitchen"\r\nmdns = false\r\n')
    assert load_config(tmp_path / "config.toml", {}, {}) == Config(name="kitchen", mdns=False)


@pytest.mark.parametrize("size", [256 * 1024, 256 * 1024 + 1])
def test_a_file_may_be_exactly_so_large(tmp_path: Path, size: int) -> None:
    (tmp_path / "config.toml").write_bytes(b"#" * size)
    if size > 256 * 1024:
        with pytest.raises(ConfigError, match="larger than 256 KiB"):
            load_config(tmp_path / "config.toml", {}, {})
    else:
        assert load_config(tmp_path / "config.toml", {}, {}) == Config()


def test_lists_and_names_may_be_exactly_so_long(tmp_path: Path) -> None:
    """The first length outside each of these bounds is refused above."""
    models = [f"m{number}@1.65535" for number in range(64)]
    contexts = [f"c{number}" for number in range(64)]
    text = f'name = "{"x" * 64}"\ncontexts = {contexts}\nmodels = {models}\nlisten = "[::]:65535"\npeers = ["a:1"]'
    config = loaded(tmp_path, text.replace("'", '"'))
    assert (len(config.name or ""), len(config.contexts or ()), len(config.models)) == (64, 64, 64)


def test_a_wrong_variable_and_a_wrong_flag_are_named_as_such(tmp_path: Path) -> None:
    for environ, flags, said in (
        ({"ECHO_LISTEN": "nowhere"}, {}, "ECHO_LISTEN: 'nowhere' is not an address"),
        ({"ECHO_MDNS": "maybe"}, {}, "ECHO_MDNS: true or false is expected, not 'maybe'"),
        ({"ECHO_LOG_LEVEL": "loud"}, {}, "ECHO_LOG_LEVEL: one of"),
        ({}, {"peers": ("a",)}, "--peer: 'a' is not an address"),
        ({}, {"interfaces": ("lo",)}, "--interface: an IP address"),
    ):
        with pytest.raises(ConfigError) as caught:
            loaded(tmp_path, "", environ, **flags)
        assert str(caught.value).startswith(said)


def test_every_setting_is_explained_with_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('name = "file"\nmdns = false\n[log]\nlevel = "debug"\n')
    environ = {"ECHO_NAME": "x", "ECHO_LOG_FORMAT": "json"}
    origins = {key: (value, origin) for key, value, origin in explain(path, environ)}
    assert origins["name"] == ("x", "ECHO_NAME")
    assert origins["mdns"] == (False, str(path))
    assert origins["log.level"] == ("debug", str(path))
    assert origins["log.format"] == ("json", "ECHO_LOG_FORMAT")
    assert origins["subscriptions"] == ({}, "default")
    with pytest.raises(ConfigError):
        list(explain(path, {"ECHO_MDNS": "perhaps"}))


def test_a_running_node_takes_some_keys_and_the_others_need_another_start(tmp_path: Path) -> None:
    running = loaded(tmp_path, 'name = "a"\n[log]\nlevel = "info"\nformat = "json"\n')
    text = (
        'name = "b"\nmdns = false\npeers = ["p:1"]\nmodels = ["task@1.2"]\n[subscriptions]\nmain = ["tag=x"]\n'
        '[api]\ngroup = "users"\nlisten = "off"\n[log]\nlevel = "debug"\nformat = "console"\n'
    )
    fresh = loaded(tmp_path, text)
    assert changed_keys(running, running) == ([], [])
    assert changed_keys(running, fresh) == (
        ["peers", "models", "subscriptions", "log.level"],
        ["name", "mdns", "api.group", "api.listen", "log.format"],
    )
    after = reloaded(running, fresh)
    assert changed_keys(running, after) == (["peers", "models", "subscriptions", "log.level"], [])
    assert changed_keys(after, fresh) == ([], ["name", "mdns", "api.group", "api.listen", "log.format"])
