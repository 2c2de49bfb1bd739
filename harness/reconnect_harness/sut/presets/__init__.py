"""Presets: systems that a user would choose instead of this project's proxy, started as their documentation advises.

| name | what it is | what it needs |
| --- | --- | --- |
| nginx | `proxy_pass` with the Upgrade headers passed on | `nginx` on PATH |
| haproxy | HTTP mode with a long `timeout tunnel` | `haproxy` on PATH |
| fastify | `@fastify/http-proxy` with `wsReconnect` | `node` on PATH; `npm` once, to install it into the user's cache |
| websockets | an ordinary relay on the library of that name | nothing |

A preset is a class with `describe`, `check` and `command`. Its configuration is a file in the run's folder, so that a
reader can check that it was treated fairly.
"""
