"""The built wheel, installed, and projects of other people whose tests run with it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from .environment import Environment, build_wheel
from .project import Project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the files of the wheel."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def environment(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Make environments, each once: `environment("reconnect-proxy[harness]", "pytest-retry")`."""

    @cache
    def make(*requirements: str) -> Environment:
        return Environment(tmp_path_factory.mktemp("environment"), unpacked, requirements)

    return make


@pytest.fixture
def project(environment: Callable[..., Environment], tmp_path: Path) -> Project:
    """A project with no files, in an environment with the harness and pytest-xdist."""
    return Project(tmp_path, environment("reconnect-proxy[harness]", "pytest-xdist"))
