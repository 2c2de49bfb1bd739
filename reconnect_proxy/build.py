"""Which build of the proxy this is: pure Python, or the one that `COMPILE_RECONNECT_PROXY=1 pip install` makes."""

from importlib.util import find_spec


def compiled() -> bool:
    """Tell whether the path of a message is compiled."""
    spec = find_spec(".core.link", __package__)
    return spec is not None and not str(spec.origin).endswith(".py")
