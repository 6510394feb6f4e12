"""Keys of built things: the same recipe gives the same key, any change of it another."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def recipe_hash(facts: Iterable[str], files: Iterable[Path] = ()) -> str:
    """Twelve hex digits over `facts` (in order) and the names and contents of `files` (in any order)."""
    digest = hashlib.sha256()
    for fact in facts:
        digest.update(f"{len(fact)}:{fact};".encode())
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name}:{content};".encode())
    return digest.hexdigest()[:12]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
