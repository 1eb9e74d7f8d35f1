"""What several tests of the book share: the built site."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmbook import site


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder with KaTeX and PurgeCSS; skips, naming the reason, where npm's registry cannot be
    reached."""
    try:
        return site.fetch()
    except site.PackagesMissing as error:
        pytest.skip(f"the site cannot be built: {error}")


@pytest.fixture(scope="session")
def built_site(node_packages: Path) -> Path:
    """The folder of the site, built now unless it stands there, built from the very same
    sources."""
    if not site.is_current():
        site.build()
    return site.folder()
