"""The sentence for a package that is not installed: the proxy alone installs the plugin and the command line too."""

from __future__ import annotations

#: A module of these packages that cannot be imported is an error in this program.
_OUR_PACKAGES = ("reconnect_harness", "reconnect_proxy")

#: Packages that no extra of ours brings, since only few need them.
_OTHERS = ("uvicorn",)


def missing(error: ModuleNotFoundError) -> str:
    """Return the sentence that says which package is not installed, and how to install it.

    Raises:
        ModuleNotFoundError: the module belongs to one of our packages.

    """
    package = (error.name or "").partition(".")[0]
    if package in _OUR_PACKAGES:
        raise error
    wanted = package if package in _OTHERS else "'reconnect-proxy[harness]'"
    return (
        f"this needs the Python package {package}, which is not installed: pip install {wanted}. "
        "The proxy works without it"
    )
