"""nginx in front of the upstream, as its "WebSocket proxying" page advises: HTTP/1.1 and the Upgrade headers passed on.

Timeouts are much longer than a run. An upgraded connection is a tunnel, which buffers no more than one read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reconnect_harness.profile import Profile
from reconnect_harness.scenario.model import Scenario
from reconnect_harness.sut.base import ListeningSystem
from reconnect_harness.sut.presets import installed

_CONFIG = """\
daemon off;
worker_processes {workers};
pid nginx.pid;
error_log stderr warn;

events {{
    worker_connections 32768;
}}

http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;

    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}

    server {{
        listen {listen};

        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"""


def config(listen: str, upstream: str) -> str:
    """Return an `nginx.conf` that proxies `listen` to `upstream` (HOST:PORT each); its paths are relative.

    There is a worker for each core that it may use (`auto` also counts cores that it may not use).
    """
    workers = len(os.sched_getaffinity(0)) if sys.platform == "linux" else "auto"
    return _CONFIG.format(listen=listen, upstream=upstream, workers=workers)


class Nginx(ListeningSystem):
    """nginx, in the foreground, with its configuration and prefix in the run's folder."""

    profile = Profile.TRANSPARENT

    def describe(self) -> str:
        """Return its name and version."""
        return f"nginx {installed.version('nginx', '-v')}"

    def check(self, scenario: Scenario) -> None:
        """Raise NotInstalled if there is no nginx."""
        super().check(scenario)
        self._program()

    def command(self, listen: str, upstream: str, folder: Path) -> list[str]:
        """Write `nginx.conf` into the folder, and return the command that uses it."""
        path = folder.absolute() / "nginx.conf"
        path.write_text(config(listen, upstream), encoding="utf-8")
        # -e: before it has read the configuration it would write to the log of the installed nginx.
        return [self._program(), "-e", "stderr", "-p", f"{path.parent}/", "-c", str(path)]

    def _program(self) -> str:
        return installed.require("nginx", "nginx", "install it with the system's packages (apt install nginx-light)")
