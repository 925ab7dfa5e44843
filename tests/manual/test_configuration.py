"""The page about the configuration against host/config.py: every key, default, example, variable and flag."""

import tomllib
from pathlib import Path

import click
import msgspec
import pytest

from echonode.cli.commands.network import run
from echonode.host.config import (
    RELOADED,
    ApiConfig,
    AuditConfig,
    BackupConfig,
    Config,
    LogConfig,
    QuotaConfig,
    TrustConfig,
    load_config,
)
from echonode.manual.settings import SETTINGS, Setting
from echonode.manual.topics import TOPICS, assignment, commented_file, configuration

by_key = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)


def value_of(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def test_the_page_has_exactly_the_keys_that_there_are() -> None:
    tables = {
        "api": ApiConfig,
        "audit": AuditConfig,
        "backup": BackupConfig,
        "log": LogConfig,
        "quota": QuotaConfig,
        "trust": TrustConfig,
    }
    top = {field.name for field in msgspec.structs.fields(Config)} - tables.keys()
    inner = {f"{table}.{field.name}" for table, kind in tables.items() for field in msgspec.structs.fields(kind)}
    assert {setting.key for setting in SETTINGS} == top | inner
    assert all(f"\n{setting.key}\n" in configuration() for setting in SETTINGS)


def test_the_page_says_which_keys_a_running_node_takes() -> None:
    *first, last = RELOADED
    assert f"takes {', '.join(first)} and {last}, and" in " ".join(configuration().split())


@by_key
def test_every_example_is_read_and_differs_from_the_default(setting: Setting, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(assignment(setting) + "\n")
    value = value_of(load_config(path, {}, {}), setting.key)
    assert value != value_of(Config(), setting.key)
    assert assignment(setting) in configuration()


@by_key
def test_every_default_is_the_codes(setting: Setting) -> None:
    value = value_of(Config(), setting.key)
    if isinstance(value, bool):
        assert setting.default == str(value).lower()
    elif isinstance(value, int):
        assert setting.default == str(value)
    elif isinstance(value, str):
        assert setting.default.partition(": ")[0] == value
    else:
        assert not value  # the words say what that means


@by_key
def test_every_variable_is_read(setting: Setting, tmp_path: Path) -> None:
    examples = tomllib.loads(f"value = {setting.example}")["value"]
    text = ",".join(examples) if isinstance(examples, list) else str(examples).lower()
    if not setting.variable:
        assert setting.key == "subscriptions"
        return
    config = load_config(tmp_path / "none", {setting.variable: text}, {})
    assert value_of(config, setting.key) != value_of(Config(), setting.key)


def test_every_flag_is_one_of_run() -> None:
    flags = {name for option in run.params if isinstance(option, click.Option) for name in option.opts}
    for setting in SETTINGS:
        assert not setting.flag or setting.flag in flags, setting.key
    said = {setting.flag for setting in SETTINGS}
    assert flags - said - {"--home"} == {"--join", "--at", "--live"}  # these are no settings


def test_the_commented_file_sets_nothing_and_each_of_its_lines_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(commented_file())
    assert load_config(path, {}, {}) == Config()
    for setting in SETTINGS:
        path.write_text(commented_file().replace(f"#{assignment(setting)}", assignment(setting)))
        assert value_of(load_config(path, {}, {}), setting.key) != value_of(Config(), setting.key)


def test_every_page_fits_80_columns() -> None:
    for page in (*(topic() for topic in TOPICS.values()), commented_file()):
        assert max(map(len, page.splitlines())) <= 80
