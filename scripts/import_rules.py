"""The import rule that import-linter has no word for: broker modules of `collectors` do not know each other.

It is worked out from the imports, so that one more collector needs no line here. A module that imports a library which
the base installation lacks is a *driver* module; its family is its package (`kafka.client` belongs to `kafka`), or its
name up to the first underscore where it stands alone (`instrument.kafka`), and with it every module of that name.
Families do not import each other, and of the rest only the registry may import a family: whoever installs the base can
import all the rest.
"""

from __future__ import annotations

import sys

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class BrokerFamilies(Contract):
    """Fields: `package`, `light` (third-party modules of the base installation), `composers` (may import families)."""

    package = fields.StringField()
    light = fields.SetField(subfield=fields.StringField())
    composers = fields.SetField(subfield=fields.StringField(), required=False, default=set())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Finds imports of a family from outside of it."""
        modules = sorted(graph.find_descendants(self.package))
        families = self._families(graph, modules)
        broken = [
            (importer, imported)
            for importer in modules
            if importer not in self.composers
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if (family := families.get(imported)) is not None and families.get(importer) != family
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def _families(self, graph: ImportGraph, modules: list[str]) -> dict[str, str]:
        """The family of each module that belongs to one."""
        ours = {module.split(".")[0] for module in modules} | {"tracker"}
        known = ours | self.light | sys.stdlib_module_names
        drivers = [
            m for m in modules if not graph.find_modules_directly_imported_by(m) <= self._within(graph, m, known)
        ]
        found = {_family(module) for module in drivers}
        return {module: _family(module) for module in modules if _family(module) in found}

    @staticmethod
    def _within(graph: ImportGraph, module: str, known: set[str]) -> set[str]:
        return {name for name in graph.find_modules_directly_imported_by(module) if name.split(".")[0] in known}

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Lists the forbidden imports."""
        for importer, imported in check.metadata["broken"]:
            output.print_error(f"{importer} must not import {imported}: a broker's module, and not of its own family")


def _family(module: str) -> str:
    """`collectors.kafka.client` -> `kafka`, and so `collectors.kafka_more`; `collectors.instrument.pika` -> `pika`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 2 and parts[1] != "instrument" else parts[-1].split("_")[0]
