"""docs/load.md: its examples, run as a reader would, and what it says of the options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reconnect_harness.load.locust_run import ROOT, locust

TEXT = (ROOT / "docs" / "load.md").read_text()
#: Options that it names which are those of the proxy.
PROXYS = {"--upstream", "--workers"}
EXAMPLES = dict(zip(["chat", "asker"], re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL), strict=True))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_custom_user_written_from_the_document_works(name: str, tmp_path: Path) -> None:
    """In an empty folder, with nothing but the example."""
    (tmp_path / f"{name}.py").write_text(EXAMPLES[name])
    run = locust("-f", f"{name}.py", "-u", "3", "-r", "3", "-t", "3s", "--scenario-seed", "2", folder=tmp_path)
    assert run.code == 0, run.text
    assert run.total("sent") == run.total("answered") > 0
    assert run.requests("round trip") == run.total("answered")
    if name == "chat":
        assert run.requests("hello comes back") > 0
        assert run.total("pushed") > 0


def test_the_command_of_the_harness_is_locust_with_our_locustfile(tmp_path: Path) -> None:
    """From any folder; its help has locust's options and those of the document."""
    command = [sys.executable, "-m", "reconnect_harness.cli", "load", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert "--processes" in done.stdout
    said = set(re.findall(r"`(--[a-z-]+)", TEXT))
    assert said
    for option in said - PROXYS:
        assert option in done.stdout, option
    ours = done.stdout.partition("WebSocket load")[2]
    for option in re.findall(r"^  (--[a-z-]+)", ours, re.MULTILINE):
        assert f"`{option}" in TEXT, option
    listed = subprocess.run(
        [*command[:-1], "--list"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert "AwareUser" in listed.stdout


@pytest.mark.parametrize(
    "program",
    [
        "from reconnect_harness.load import WebSocketUser",
        "import sys; from reconnect_harness.cli import main; sys.exit(main(['load']))",
    ],
)
def test_without_locust_a_sentence_says_what_to_install(program: str) -> None:
    """The rest of the package does not need it."""
    hidden = "import sys; sys.modules['locust'] = None; sys.modules['gevent'] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; {program}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "pip install 'reconnect-proxy[load]'" in done.stderr, done.stderr
