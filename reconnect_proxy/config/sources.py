"""Where a `Config` comes from: flags > `RECONNECT_PROXY_*` variables > a TOML file > defaults.

Each option is kept with its *origin*, the name under which the user gave it (`--grace`, `RECONNECT_PROXY_GRACE`,
`proxy.toml: grace`), so that an error names what the user must change.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..net.tls import BadCertificate
from ..suggestions import did_you_mean
from .model import FORMER_NAMES, Config

PREFIX = "RECONNECT_PROXY_"
TABLE = "reconnect-proxy"

#: Kubernetes gives every pod the addresses of its services as variables. For a service called `reconnect-proxy`
#: they have our prefix: RECONNECT_PROXY_PORT, RECONNECT_PROXY_SERVICE_HOST, RECONNECT_PROXY_PORT_9124_TCP_ADDR.
_SERVICE_VARIABLE = re.compile(PREFIX + r"(SERVICE_(HOST|PORT)|PORT$|PORT_\d+_(TCP|UDP|SCTP))")


#: The names under which options are found, former ones included, and the options.
_NAMES = {**{name: name for name in Config.model_fields}, **FORMER_NAMES}

#: Options that name PEM files.
_FILES = ("tls_cert", "tls_key", "upstream_ca", "upstream_cert", "upstream_key")


class ConfigError(Exception):
    """The configuration is wrong. The message is one line: where, what was found, what would be right."""


@dataclass(frozen=True, slots=True)
class Given:
    """The value of one option as the user gave it, and the `origin` where it was given."""

    value: object
    origin: str


def flag_of(option: str) -> str:
    """Return the flag of `option`: `--retry-for` for `retry_for`."""
    return "--" + option.replace("_", "-")


def variable_of(option: str) -> str:
    """Return the environment variable of `option`: `RECONNECT_PROXY_RETRY_FOR` for `retry_for`."""
    return PREFIX + option.upper()


def load(flags: Mapping[str, object], environ: Mapping[str, str], file: str | None = None) -> Config:
    """Return the configuration made of `flags` (option names to values), `environ` and the TOML `file`.

    Without `file` the variable `RECONNECT_PROXY_CONFIG` may name one. A variable with an empty value counts as not
    set.

    Raises:
        ConfigError: an unknown key, a bad value, no upstream, or a file that cannot be read.

    """
    return check(gather(flags, environ, file))


def gather(flags: Mapping[str, object], environ: Mapping[str, str], file: str | None = None) -> dict[str, Given]:
    """Return what `flags`, `environ` and the TOML `file` say of each option, unchecked; see `load`.

    Raises:
        ConfigError: an unknown key, or a file that cannot be read.

    """
    variables = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
    from_variable = variables.pop(variable_of("config"), None)
    return {
        **(_from_file(file, "--config") if file is not None else {}),
        **(_from_file(from_variable, variable_of("config")) if file is None and from_variable else {}),
        **_from_variables(variables),
        **{option: Given(value, flag_of(option)) for option, value in flags.items()},
    }


def check(given: Mapping[str, Given]) -> Config:
    """Return the configuration that `given` makes. Raises ConfigError: a bad value, or no upstream."""
    try:
        return Config(**{option: setting.value for option, setting in given.items()})
    except ValidationError as error:
        raise ConfigError(_sentence(error, given)) from None


def _sentence(error: ValidationError, given: Mapping[str, Given]) -> str:
    """Return the first problem in `error` as one line."""
    first = error.errors(include_url=False)[0]
    option = str(first["loc"][0])
    if first["type"] == "missing":
        return (
            f"no {option}: give {flag_of(option)} ws://HOST:PORT, {variable_of(option)}, "
            f"or {option} in the file of --config"
        )
    reason = first.get("ctx", {}).get("error", first["msg"])
    if isinstance(reason, BadCertificate):
        # The files are loaded together, after the last of them is known.
        option = next((name for name in _FILES if name in given and given[name].value == reason.path), option)
    # An option that another one needs was not given.
    origin = given[option].origin if option in given else flag_of(option)
    return f"{origin}: {reason}"


def _from_variables(variables: Mapping[str, str]) -> dict[str, Given]:
    options = {variable_of(name): option for name, option in _NAMES.items()}
    given: dict[str, Given] = {}
    for name, text in variables.items():
        option = options.get(name)
        if option == "upstream":
            given[option] = Given([url.strip() for url in text.split(",")], name)
        elif option is not None:
            given[option] = Given(text, name)
        elif not _SERVICE_VARIABLE.match(name):
            raise ConfigError(f"{name}: there is no such option{_meant(name, [*options, variable_of('config')])}")
    return given


def _from_file(file: str, origin: str) -> dict[str, Given]:
    try:
        document = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{origin} {file}: cannot read the file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{origin} {file}: the file is not UTF-8 text, as TOML must be") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin} {file}: the file is not TOML: {error}") from None
    given: dict[str, Given] = {}
    for key, value in _own_table(document, file).items():
        option = _NAMES.get(key.replace("-", "_"))
        if option is None:
            known = [TABLE, *(name.replace("_", "-") for name in Config.model_fields)]
            raise ConfigError(f"{file}: {key}: there is no such option{_meant(key.replace('_', '-'), known)}")
        if option in given:
            raise ConfigError(f"{file}: {key}: the option is given twice, under two spellings of its name; keep one")
        given[option] = Given(value, f"{file}: {key}")
    return given


def _own_table(document: dict[str, object], file: str) -> dict[str, object]:
    """Return the part of `document` that is for the proxy: its table, or all of it if there is no such table."""
    names = [name for name in (TABLE, TABLE.replace("-", "_")) if name in document]
    if not names:
        return document
    table = document[names[0]]
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: {names[0]}: must be a table: write [{TABLE}] and the options below it")
    for key, value in document.items():
        # Tables of other programs are allowed. An option outside of our table would be ignored silently.
        if key != names[0] and (len(names) > 1 or not isinstance(value, dict)):
            raise ConfigError(f"{file}: {key}: is outside of the table [{names[0]}]: move it there")
    return table


def _meant(wrong: str, known: Iterable[str]) -> str:
    words = sorted(known)
    hint = did_you_mean(wrong, words).rstrip() or f"the options are {', '.join(words)}"
    return f"; {hint}"
