"""Warehouses by id, by name, and by the names that other systems give them."""

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from app.domain.records import WarehouseRecord
from app.domain.warehouses import WarehouseType
from app.files.cell_values import BadCell
from app.files.columns import FILE_COLUMNS, FileKind, new_warehouse_id
from app.files.problems import listed, shown

# Unknown names for which similar ones are searched.
MAX_NEAR_MISSES: Final = 10
LIST_WAREHOUSES: Final = "`inventory export warehouses` lists all."


def folded_name(name: str) -> str:
    """Return the name of a warehouse for comparison: without case and repeated spaces."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


class WarehouseNames:
    """The warehouses of a tenant, and the names of the file that `--warehouse` maps to them."""

    def __init__(
        self,
        tenant_id: str,
        warehouses: Iterable[WarehouseRecord],
        options: Iterable[str] = (),
        *,
        creates: bool = False,
    ) -> None:
        """Read options such as wh_main, "Main Warehouse" and "WH/Stock=wh_main".

        Raises:
            BadCell: an option names no warehouse.

        """
        self.by_id = {warehouse.id: warehouse for warehouse in warehouses}
        # The warehouse of rows that name none.
        self.default: str | None = None
        self.created: dict[str, WarehouseRecord] = {}
        self._tenant_id = tenant_id
        self._creates = False
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for warehouse in self.by_id.values():
            self._by_name[folded_name(warehouse.name)].append(warehouse.id)
        self._mapped: dict[str, str] = {}
        self._unknown: dict[str, BadCell] = {}
        for option in options:
            self._add_option(option)
        self._creates = creates

    def find(self, text: str) -> str:
        """Return the id of the warehouse that a file names.

        Raises:
            BadCell: there is no such warehouse, or several have this name.

        """
        if text in self.by_id:
            return text
        folded = folded_name(text)
        if mapped := self._mapped.get(folded):
            return mapped
        ids = self.ids_of_name(text)
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise BadCell(f"is the name of several warehouses: {listed(ids)}", "Use the id.")
        if self._creates:
            return self._create(text)
        raise self._refusal_of(text)

    def id_of_row(self, id_: str | None, name: str) -> str:
        """Return the id of the warehouse that a row of a file of warehouses describes.

        Raises:
            BadCell: the name is that of another warehouse, or of several.

        """
        ids = self.ids_of_name(name)
        if id_ is None and len(ids) > 1:
            raise BadCell(f"is the name of several warehouses: {listed(ids)}", "Give the id.")
        if id_ is not None and ids and id_ not in (*ids, *self.by_id):
            raise BadCell(
                f"is the name of the warehouse {shown(ids[0])} already",
                "Leave out the id to change that warehouse, or choose another name.",
            )
        if id_ is None:
            id_ = ids[0] if ids else self._new_id(name)
        if id_ not in ids:
            self._by_name[folded_name(name)].append(id_)
        return id_

    def ids_of_name(self, name: str) -> list[str]:
        """Return the ids of the warehouses with a name."""
        return self._by_name.get(folded_name(name), [])

    def _add_option(self, option: str) -> None:
        name, separator, target = option.rpartition("=")
        is_mapping = separator and option not in self.by_id and not self.ids_of_name(option)
        target = (target if is_mapping else option).strip()
        if not is_mapping and self.default is not None:
            raise BadCell(
                f"{shown(target)} is a second warehouse for rows that name none",
                'Map names by --warehouse "NAME IN THE FILE=ID".',
            )
        try:
            id_ = self.find(target)
        except BadCell as error:
            raise BadCell(f"{shown(target)} {error.reason}", error.remedy) from error
        if is_mapping:
            self._mapped[folded_name(name)] = id_
        else:
            self.default = id_

    def _create(self, name: str) -> str:
        if problem := FILE_COLUMNS[FileKind.WAREHOUSES]["name"].problem(name):
            raise BadCell(problem)
        id_ = self._new_id(name)
        record = WarehouseRecord(id_, name, WarehouseType.OWN, None, None, is_active=True)
        self.created[record.id] = self.by_id[record.id] = record
        self._by_name[folded_name(name)].append(record.id)
        return record.id

    def _new_id(self, name: str) -> str:
        id_ = new_warehouse_id(self._tenant_id, name)
        while id_ in self.by_id:
            # The warehouse with this id was renamed.
            id_ = new_warehouse_id(self._tenant_id, id_)
        return id_

    def _refusal_of(self, text: str) -> BadCell:
        if text in self._unknown:
            return self._unknown[text]
        # The search reads all names, and a file may be full of unknown ones.
        near = self._near_miss(text) if len(self._unknown) < MAX_NEAR_MISSES else ""
        refusal = BadCell(
            "is neither the id nor the name of a warehouse",
            f"{near}{LIST_WAREHOUSES} To say which warehouse is meant: "
            f"--warehouse {shown(f'{text}=ID')}",
        )
        if len(self._unknown) < MAX_NEAR_MISSES:
            self._unknown[text] = refusal
        return refusal

    def _near_miss(self, text: str) -> str:
        near = difflib.get_close_matches(folded_name(text), self._known_texts, n=1)
        return f"Did you mean {shown(self._known_texts[near[0]])}? " if near else ""

    @cached_property
    def _known_texts(self) -> dict[str, str]:
        """The ids and names by their folded form."""
        texts = [(id_, warehouse.name) for id_, warehouse in self.by_id.items()]
        return {folded_name(text): text for pair in texts for text in pair}
