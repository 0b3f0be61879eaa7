"""Which packages a set of packages needs: a walk over the dependency fields, no solver.

Good enough for unpacking: the suites given are self-consistent, and an unpacked tree cannot conflict. Version
restrictions are not evaluated; the first suite that has a name wins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from debian.deb822 import PkgRelation

from lab.machine import LabError
from lab.packages.index import Index, Package


def closure(
    indices: Sequence[Index], roots: Sequence[str], *, exclude: Collection[str] = ()
) -> list[Package]:
    """``roots`` and all they depend on, in the order found; ``exclude`` names packages left out with theirs.

    LabError when a root is in no index. A dependency that is in no index is left out: the archive itself
    guarantees that another alternative or an essential package satisfies it.
    """
    found: dict[str, Package] = {}
    todo = [(name, True) for name in roots]
    while todo:
        name, is_root = todo.pop(0)
        if name in found or name in exclude:
            continue
        package = find(indices, name)
        if package is None:
            if is_root:
                suites = ", ".join(index.suite for index in indices)
                raise LabError(f"package {name} is in none of the suites {suites}")
            continue
        if package.name in found or package.name in exclude:
            continue
        found[package.name] = package
        if not package.depends:
            continue
        for alternatives in PkgRelation.parse_relations(package.depends):
            names = [str(relation["name"]) for relation in alternatives]
            if not any(n in found or n in exclude for n in names):
                todo.append((names[0], False))
    return list(found.values())


def find(indices: Sequence[Index], name: str) -> Package | None:
    """The package of this name, or the first that provides it, from the first suite that has one."""
    for index in indices:
        package = index.get(name)
        if package is not None:
            return package
    for index in indices:
        for provider in index.providers(name):
            package = index.get(provider)
            if package is not None:
                return package
    return None
