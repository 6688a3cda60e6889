"""
The places settings come from: environment, ``.env``, the configuration file, the command line. Read, not yet checked.

``sections.py`` says what a setting means. This is the only reader of the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dotenv.parser import parse_stream

from gateway.errors import ConfigError

ENV_PREFIX = "GATEWAY_"
CONFIG_VARIABLE = "GATEWAY_CONFIG"
COMMAND_LINE = "command line"
FALLBACKS = {"OPENAI_API_KEY": "realtime.api_key", "REDIS_URL": "redis.url"}
"""Names other programs use too; read when nothing else sets the value."""
DEFAULT_CONFIG = Path("gateway.toml")
DOTENV = Path(".env")
MAX_SECRET_BYTES = 65536
# Kubernetes and old Docker links put these into every container beside a service called "gateway".
_SERVICE_LINK = re.compile(r"GATEWAY_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)")


class Given(NamedTuple):
    """A value as it was found, and the place: a file, ``command line``, or the variable's name."""

    value: object
    place: str


def variable_of(name: str) -> str:
    """Return the environment variable of a setting: ``sip.port`` -> ``GATEWAY_SIP__PORT``."""
    return ENV_PREFIX + name.upper().replace(".", "__")


@dataclass(frozen=True)
class SettingSources:
    """
    Knows the names to look for.

    Args:
        fields: every setting by its dotted name.
        mappings: those whose value is a mapping -> the name of an entry from the end of a variable
            (``GATEWAY_SECRETS__CRM``: ``CRM`` -> ``crm``); None: its names do not fit into variables, nor are they
            folded to lower case.
        fallbacks: variables of other programs -> the setting they give when nothing else does.
    """

    fields: tuple[str, ...]
    mappings: Mapping[str, Callable[[str], str] | None]
    fallbacks: Mapping[str, str]

    def collect(self, config: Path | None, overrides: Mapping[str, Any], problems: list[str]) -> dict[str, Given]:
        """
        Return what is given by its dotted name; an entry of a mapping has a name of its own: ``secrets.crm``.

        Adds a line ``place: field: problem, cure`` to ``problems`` for every mistake.
        """
        environ = {name: value for name, value in os.environ.items() if value.strip()}
        dotenv = _read_dotenv(problems)
        given: dict[str, Given] = {}
        for variables, place in ((dotenv, f"{DOTENV}: "), (environ, "")):
            given |= {self.fallbacks[v]: Given(variables[v], place + v) for v in self.fallbacks if v in variables}
        named = config or environ.get(CONFIG_VARIABLE) or dotenv.get(CONFIG_VARIABLE)
        path = Path(named) if named else None
        given |= self._flatten(_read_config(path, problems), str(path or DEFAULT_CONFIG), problems)
        given |= self._from_variables(dotenv, f"{DOTENV}: ", problems)
        given |= self._from_variables(environ, "", problems)
        given |= self._flatten(overrides, COMMAND_LINE, problems)
        return given

    def mapping_of(self, name: str) -> str | None:
        """Return the mapping that ``secrets.crm`` is an entry of; None when it is a setting itself."""
        return next((mapping for mapping in self.mappings if name.startswith(f"{mapping}.")), None)

    @property
    def _sections(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.fields if "." in name))

    def _flatten(self, table: Mapping[str, Any], place: str, problems: list[str]) -> dict[str, Given]:
        flat: dict[str, object] = {}
        for name, value in table.items():
            if name in self._sections and isinstance(value, Mapping):
                flat |= {f"{name}.{inner}": deeper for inner, deeper in value.items()}
            elif name in self._sections:
                problems.append(f"{place}: {name}: is a section; write [{name}] and its settings below it")
            else:
                flat[name] = value
        known = {name for name in flat if name in self.fields or self.mapping_of(name)}
        for name in flat.keys() - known:
            section = name.partition(".")[0]
            near = [field for field in self.fields if section in self._sections and field.startswith(f"{section}.")]
            hint = did_you_mean(name, near or [*self.fields, *self._sections])
            problems.append(f"{place}: {name}: unknown setting, {hint}")
        found: dict[str, Given] = {}
        for name, value in flat.items():
            if name in known and value is not None:
                found |= self._entries(name, Given(value, place), problems)
        return found

    def _entries(self, name: str, given: Given, problems: list[str]) -> dict[str, Given]:
        """Return a mapping's entries one by one, so that each place may add some; anything else as it is."""
        if name not in self.mappings:
            return {name: given}
        if not isinstance(given.value, Mapping):
            problems.append(f"{given.place}: {name}: should be a table of names and values")
            return {}
        found: dict[str, Given] = {}
        for key, value in given.value.items():
            entry = f"{name}.{key.lower() if self.mappings[name] else key}"
            if entry in found:
                problems.append(f"{given.place}: {entry}: is given twice (upper and lower case are the same); keep one")
            found[entry] = Given(value, given.place)
        return found

    def _from_variables(self, variables: Mapping[str, str], place: str, problems: list[str]) -> dict[str, Given]:
        names = {variable_of(name): name for name in self.fields}
        whole: dict[str, Given] = {}
        single: dict[str, Given] = {}
        for variable, value in variables.items():
            given = Given(value, place + variable)
            name = names.get(variable)
            if name is not None and name in self.mappings:
                whole |= self._entries(name, self._parsed(name, given, problems), problems)
            elif name is not None:
                single[name] = given
            elif (entry := self._entry_of(variable)) is not None:
                single[entry] = given
            elif not self._foreign(variable, value):
                known_ends = [known.removeprefix(ENV_PREFIX) for known in (*names, CONFIG_VARIABLE)]
                hint = did_you_mean(variable.upper().removeprefix(ENV_PREFIX), known_ends, ENV_PREFIX)
                problems.append(f"{place}{variable}: unknown setting, {hint}")
        return whole | single

    def _entry_of(self, variable: str) -> str | None:
        for mapping, name_in in self.mappings.items():
            end = variable.removeprefix(f"{variable_of(mapping)}__")
            if name_in is not None and end not in ("", variable):
                return f"{mapping}.{name_in(end)}"
        return None

    def _parsed(self, name: str, given: Given, problems: list[str]) -> Given:
        try:
            value = json.loads(str(given.value))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            problems.append(f'{given.place}: {name}: should be a JSON object such as {{"name": ...}}')
            value = {}
        return Given(value, given.place)

    def _foreign(self, variable: str, value: str) -> bool:
        ours = variable.upper().startswith(ENV_PREFIX) and variable != CONFIG_VARIABLE
        linked = _SERVICE_LINK.fullmatch(variable) or (variable == "GATEWAY_PORT" and "://" in value)
        return not ours or bool(linked)


def _read_dotenv(problems: list[str]) -> dict[str, str]:
    try:
        text = DOTENV.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{DOTENV}: cannot be read ({_why(error)}); fix or remove it")
        return {}
    found: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            problems.append(f"{DOTENV}:{binding.original.line}: not of the form NAME=value; fix or remove the line")
        elif binding.key and binding.value and binding.value.strip():
            found[binding.key] = binding.value
    return found


def _read_config(named: Path | None, problems: list[str]) -> dict[str, Any]:
    path = named or DEFAULT_CONFIG
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        if named is not None:
            problems.append(f"{path}: no such configuration file; check --config or {CONFIG_VARIABLE}")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not TOML: {error}; fix that line")
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        problems.append(f"{path}: cannot be read ({_why(error)}); it must be TOML in UTF-8")
    return {}


def add_secrets_of_folder(given: dict[str, Given], problems: list[str]) -> None:
    """
    Add each file of ``secrets_folder`` as a secret: its name -> its content without white space around it.

    A secret that is given elsewhere too keeps that value. Hidden files and folders are skipped: that is how
    Kubernetes lays a secret out.
    """
    named = given.get("secrets_folder")
    if named is None:
        return
    folder = Path(str(named.value))
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        problems.append(
            f"{named.place}: secrets_folder: {folder}: {error.strerror}; set it to a folder that can be read"
        )
        return
    for path in paths:
        name = f"secrets.{path.name.lower()}"
        try:
            content = _secret_in(path)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            problems.append(f"{path}: {name}: cannot be read ({_why(error)}); fix or remove the file")
            continue
        given.setdefault(name, Given(content, str(path)))


def _secret_in(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError(f"it has more than {MAX_SECRET_BYTES} bytes")
    content = data.decode("utf-8").strip()
    if not content:
        raise ValueError("it is empty")
    return content


def _why(error: Exception) -> str:
    match error:
        case OSError(strerror=str() as reason):
            return reason
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case ValueError():
            return str(error)
        case _:
            return "it is nested too deeply"


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return a hint for an unknown name: the known one that is most like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else "the settings are listed by `gateway check`"


def service_environment() -> dict[str, str]:
    """Return what the service manager and the login session say of this process: addresses, limits, folders."""
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "XDG_RUNTIME_DIR")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def runtime_folder(environment: Mapping[str, str]) -> Path:
    """
    Return the folder for what only this user's processes may see while they run; it exists.

    Args:
        environment: ``XDG_RUNTIME_DIR`` if it is set.

    Raises:
        ConfigError: the folder that stands in for it belongs to somebody else.
    """
    if session := environment.get("XDG_RUNTIME_DIR"):
        return Path(session)
    folder = Path(tempfile.gettempdir()) / f"gateway-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"XDG_RUNTIME_DIR: not set, and {folder} is not a folder of ours alone; set it, or remove that"
        )
    return folder


def environment_with(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment, settings of the gateway too, with ``variables`` over it."""
    return {**os.environ, **variables}


def environment_for_child(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without any setting of the gateway, and with ``variables``."""
    foreign = {
        name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX) and name not in FALLBACKS
    }
    return {**foreign, **variables}
