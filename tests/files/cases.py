"""Files as people have them, each with the outcome that it should have."""

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

WAREHOUSES: Final = """\
id,name,type,address,marketplace,is_active
wh_main,Main Warehouse,own,,,true
wh_shop,"Shop location",own,,,true
wh_3pl,North Fulfilment,3PL,,,true
wh_fba,Amazon DE,FBA,,amazon.de,true
"""
SKUS: Final = """\
sku,title
NSC-BOOK-1,Field guide
NSC-TEE-S,Tee S
NSC-TEE-M,Tee M
0120450789,Rebuilt injector
100,Pot 100
4260000000017,EAN article
01234,Article 01234
1234,Article 1234
AB/12-3,Slashed article
ÜGröße 42,Umlaut article
90.750,Trailing zero article
JAN-2,Article of January
"""
COUNTS: Final = "sku,warehouse_id,quantity\n"
BOOK: Final = {("NSC-BOOK-1", "wh_main"): 3}
SHOPIFY: Final = (
    "Handle,Title,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Option3 Name,"
    "Option3 Value,SKU,HS Code,COO,"
)
# The rest of a row of a variant in Shopify's files.
VARIANT: Final = "book,Book,Title,Default Title,,,,,"
Levels = Mapping[tuple[str, str], int]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, the options of its import, and the outcome."""

    name: str
    content: str | bytes
    options: Sequence[str] = ()
    # The stock afterwards; none of it: the import is refused.
    levels: Levels = field(default_factory=dict)
    # Texts of the output.
    says: Sequence[str] = ()
    # Whether the import succeeds without stock.
    succeeds: bool = False


LAYOUT_CASES: Final = [
    Case(
        name="shopify-a-row-for-each-location",
        content=SHOPIFY + "Location,Bin name,Incoming (not editable),Unavailable (not editable),"
        "Committed (not editable),Available (not editable),On hand (current),On hand (new)\n"
        f"{VARIANT}NSC-BOOK-1,,,Main Warehouse,,0,0,13,457,470,\n"
        f"{VARIANT}NSC-TEE-S,,,Main Warehouse,,0,0,0,470,470,9\n"
        f"{VARIANT}NSC-BOOK-1,,,Shop location,,not stocked,not stocked,not stocked,not stocked,"
        "not stocked,\n"
        f'{VARIANT}"",,,Main Warehouse,,0,0,0,4,4,\n',
        levels={("NSC-BOOK-1", "wh_main"): 470, ("NSC-TEE-S", "wh_main"): 9},
        says=[
            "layout Shopify inventory;",
            "quantity from 'On hand (new)', else 'On hand (current)'",
            "1 left alone, 1 passed over",
        ],
    ),
    Case(
        name="shopify-negative",
        content=SHOPIFY
        + f"Location,On hand (current),On hand (new)\n{VARIANT}NSC-BOOK-1,,,Main Warehouse,-5,-5\n",
        says=["line 2, column 'On hand (new)': '-5' is negative. Stock on hand cannot"],
    ),
    Case(
        name="shopify-all-states",
        content=SHOPIFY
        + "Location,Incoming,Unavailable,Committed,Available,On hand\n"
        + f"{VARIANT}NSC-BOOK-1,,,Main Warehouse,0,0,1,2,3\n",
        levels=BOOK,
        says=["layout Shopify inventory (all states)"],
    ),
    Case(
        name="shopify-a-column-for-each-location",
        content=SHOPIFY
        + f"Main Warehouse,Shop location,Attic\n{VARIANT}NSC-BOOK-1,,,23,not stocked,4\n",
        levels={("NSC-BOOK-1", "wh_main"): 23},
        says=["layout Shopify inventory (a column for each location)", "passed over: 'Attic'."],
    ),
    Case(
        name="shopify-unknown-locations",
        content=SHOPIFY + f"Attic,Cellar\n{VARIANT}NSC-BOOK-1,,,23,4\n",
        says=["none of 'Attic', 'Cellar' is a warehouse", "--warehouse 'Attic=ID'"],
    ),
    Case(
        name="amazon-fba-inventory",
        content="sku\tfnsku\tasin\tproduct-name\tcondition\tafn-warehouse-quantity\t"
        "afn-fulfillable-quantity\tafn-reserved-quantity\n"
        'NSC-BOOK-1\tX1\tB1\t"Best" book\tNew\t9\t7\t2\n',
        options=["--warehouse", "Amazon DE"],
        levels={("NSC-BOOK-1", "wh_fba"): 7},
        says=["Read as reports: layout Amazon FBA inventory;", "from 'afn-fulfillable-quantity'"],
    ),
    Case(
        name="amazon-fba-without-warehouse",
        content="sku\tfnsku\tafn-fulfillable-quantity\nNSC-BOOK-1\tX1\t7\n",
        says=["does not say which warehouse", "--warehouse ID"],
    ),
    Case(
        name="amazon-fba-by-condition",
        content="seller-sku\tfulfillment-channel-sku\tasin\tcondition-type\t"
        "Warehouse-Condition-code\tQuantity Available\n"
        "NSC-BOOK-1\tX1\tB1\tNew\tSELLABLE\t7\nNSC-BOOK-1\tX1\tB1\tNew\tUNSELLABLE\t2\n",
        options=["--warehouse", "wh_fba"],
        levels={("NSC-BOOK-1", "wh_fba"): 7},
        says=["1 passed over"],
    ),
    Case(
        name="amazon-listings",
        content="item-name\titem-description\tlisting-id\tseller-sku\tprice\tquantity\t"
        "fulfillment-channel\n"
        'A 12" "pipe\tx\tL1\tNSC-BOOK-1\t9.99\t3\tDEFAULT\n'
        '"Best\ty\tL2\tNSC-TEE-S\t9.99\t\tAMAZON_EU\n',
        options=["--warehouse", "wh_main"],
        levels=BOOK,
        says=["layout Amazon listings", "1 left alone"],
    ),
    Case(
        name="amazon-open-listings-with-quotes",
        content='sku,asin,price,quantity,warehouse_id,title\nNSC-BOOK-1,B1,9,3,wh_main,"a,b"\n',
        levels=BOOK,
        says=["layout Amazon open listings"],
    ),
    Case(
        name="magento",
        content="source_code,sku,status,quantity\nwh_main,NSC-BOOK-1,1,3.0000\n",
        levels=BOOK,
        says=["layout Magento source items; warehouse_id from 'source_code'"],
    ),
    Case(
        name="magento-other-case",
        content="source_code,sku,status,quantity\nwh_shop,nsc-tee-s,0,0.0000\n",
        says=["'nsc-tee-s' is not the code of a SKU. Did you mean 'NSC-TEE-S'?"],
    ),
    Case(
        name="square",
        content="Token,Item Name,Variation Name,SKU,Enabled Main,Current Quantity Main,"
        "New Quantity Main,Current Quantity Shop,New Quantity Shop\n"
        "T1,Field guide,Regular,NSC-BOOK-1,Y,470,,3,4\nT2,Gift,Regular,,Y,1,,1,\n",
        options=["--warehouse", "Main=wh_main", "--warehouse", "Shop=Shop location"],
        levels={("NSC-BOOK-1", "wh_main"): 470, ("NSC-BOOK-1", "wh_shop"): 4},
        says=["layout Square item library", "1 passed over"],
    ),
    Case(
        name="square-part-of-the-locations",
        content="Token,Item Name,Variation Name,SKU,Current Quantity Main,Current Quantity Shop\n"
        "T1,Field guide,Regular,NSC-BOOK-1,3,4\n",
        options=["--warehouse", "Main=wh_main"],
        levels=BOOK,
        says=["passed over: 'Current Quantity Shop'."],
    ),
    Case(
        name="woocommerce",
        content='ID,Type,SKU,Name,Published,"In stock?",Stock,"Backorders allowed?"\n'
        "11,variable,NSC-TEE,Tee,1,1,,0\n12,variation,NSC-BOOK-1,Tee S,1,1,3,0\n"
        "13,variation,NSC-TEE-M,Tee M,1,1,parent,0\n",
        options=["--warehouse", "wh_main"],
        levels=BOOK,
        says=["layout WooCommerce products", "2 left alone"],
    ),
    Case(
        name="odoo",
        content="id,product_id,location_id,lot_id,inventory_quantity,quantity\n"
        "x.1,[NSC-BOOK-1] Field guide,WH/Stock,,0.0,3.0\nx.2,Gift,WH/Stock,,0.0,1.0\n",
        options=["--warehouse", "WH/Stock=wh_main"],
        levels=BOOK,
        says=["layout Odoo stock.quant", "1 passed over"],
    ),
    Case(
        name="erpnext",
        content="Item Code,Warehouse,Quantity,Valuation Rate\n"
        'NSC-BOOK-1,Stores - AC,470.000,"1,234.50"\nNSC-BOOK-1,Stores - AC,30.000,"1,234.50"\n',
        options=["--warehouse", "Stores - AC=wh_main", "--duplicates", "sum"],
        levels={("NSC-BOOK-1", "wh_main"): 500},
        says=["layout ERPNext stock reconciliation"],
    ),
    Case(
        name="linnworks",
        content="SKU,Stock Level,Location\nNSC-BOOK-1,3,Default\n",
        options=["--warehouse", "Default=wh_main"],
        levels=BOOK,
        says=["layout Linnworks stock levels"],
    ),
    Case(
        name="jtl",
        content="\ufeffArtikelnummer;Lager;Bestand\r\nNSC-BOOK-1;wh_main;1.234,00\r\n",
        options=["--decimal", ","],
        levels={("NSC-BOOK-1", "wh_main"): 1234},
        says=["layout JTL-Ameise"],
    ),
    Case(
        name="jtl-without-decimal",
        content="Artikelnummer;Lager;Bestand\r\nNSC-BOOK-1;wh_main;1.234,00\r\n",
        says=["column 'Bestand': '1.234,00' is ambiguous", "--decimal . or --decimal ,"],
    ),
    Case(
        name="own-export",
        content="sku,title,warehouse_id,on_hand,reserved,available,safety_stock,"
        "reorder_point,status,version,adjusted_at\n"
        "NSC-BOOK-1,Field guide,wh_main,3,0,3,0,,normal,1,2026-11-30T02:23:03.088Z\n"
        "NSC-BOOK-1,Field guide,wh_fba,0,0,0,0,2,normal,1,\n",
        levels=BOOK,
        says=["layout inventory export stock; quantity from 'on_hand'", "1 unchanged"],
    ),
    Case(
        name="warehouses-as-columns",
        content="SKU|wh_main|Shop location|Colour\nNSC-BOOK-1|3|4|red\n",
        levels={**BOOK, ("NSC-BOOK-1", "wh_shop"): 4},
        says=["passed over: 'Colour'."],
    ),
    Case(
        name="other-names",
        content="Variant SKU,Place,Pieces\nNSC-BOOK-1,main  warehouse,3\n",
        options=[
            *("--column", "sku=variant_sku", "--column", "Warehouse=Place"),
            *("--column", "quantity=PIECES"),
        ],
        levels=BOOK,
    ),
    Case(
        name="mapped-column-is-absent",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\n",
        options=["--column", "sku=Code"],
        says=["has no column 'Code'", "It has 'sku', 'warehouse_id', 'quantity'."],
    ),
    Case(
        name="mapped-column-of-no-kind",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\n",
        options=["--column", "colour=quantity"],
        says=["counts have no column 'colour'", "They have sku, warehouse_id, quantity"],
    ),
]
CONTAINER_CASES: Final = [
    *(
        Case(name=f"delimiter-{ord(each)}", content=text.replace(",", each), levels=BOOK)
        for text in [f"{COUNTS}NSC-BOOK-1,wh_main,3\n"]
        for each in ",;\t|"
    ),
    *(
        Case(name=name, content=f"{COUNTS}NSC-BOOK-1,wh_main,3\n".encode(name), levels=BOOK)
        for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
    ),
    *(
        Case(
            name=f"line-end-{end.encode().hex()}",
            content=f"{COUNTS}NSC-BOOK-1,wh_main,3".replace("\n", end),
            levels=BOOK,
        )
        for end in ("\n", "\r", "\r\n")
    ),
    Case(
        name="windows-1252",
        content="sku,warehouse_id,quantity,note\r\nÜGröße 42,wh_main,3,für\r\n".encode("cp1252"),
        levels={("ÜGröße 42", "wh_main"): 3},
        says=["is not UTF-8 and was read as Windows-1252", "--encoding"],
    ),
    Case(
        name="named-encoding",
        content=f"{COUNTS}ÜGröße 42,wh_main,3\n".encode("cp850"),
        options=["--encoding", "cp850"],
        levels={("ÜGröße 42", "wh_main"): 3},
    ),
    Case(
        name="wrong-encoding",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\nÜGröße 42,wh_main,3\n".encode("cp1252"),
        options=["--encoding", "utf-8"],
        says=["line 3: is not UTF-8: byte 0xDC"],
    ),
    Case(
        name="damaged-utf-8",
        content=f"{COUNTS}ÜGröße 42,wh_main,3\n".encode() + b"A\xff,wh_main,3\n",
        says=["line 3: is not UTF-8: byte 0xFF"],
    ),
    *(
        Case(
            name=f"no-encoding-{encoding}",
            content=COUNTS,
            options=["--encoding", encoding],
            says=[f"there is no encoding '{encoding}'"],
        )
        for encoding in ("x", "zip", "hex")
    ),
    Case(
        name="gzip",
        content=gzip.compress(f"{COUNTS}NSC-BOOK-1,wh_main,3\n".encode("utf-16")),
        levels=BOOK,
    ),
    Case(
        name="truncated-gzip",
        content=gzip.compress(f"{COUNTS}NSC-BOOK-1,wh_main,3\n".encode())[:-9],
        says=["is a damaged gzip file"],
    ),
    Case(
        name="json-array",
        content='[{"sku":"NSC-BOOK-1","warehouse_id":"wh_main","quantity":3},\n'
        '{"SKU":1234,"Warehouse ID":"wh_main","quantity":"4","other":[1]}]',
        levels={**BOOK, ("1234", "wh_main"): 4},
        says=["passed over: 'other'."],
    ),
    Case(
        name="json-lines",
        content='\n{"sku":"NSC-BOOK-1","warehouse_id":"wh_main","quantity":3.0}\r\n'
        '{"sku":"1234","warehouse_id":"wh_main","quantity":null}',
        levels=BOOK,
        says=["1 left alone"],
    ),
    Case(
        name="json-with-one-warehouse",
        content='{"sku":"NSC-BOOK-1","quantity":3}\n{"sku":"1234"}\n',
        options=["--warehouse", "wh_main", "--on-error", "continue"],
        levels=BOOK,
        says=["line 2, column 'quantity': is missing in this row"],
    ),
    Case(
        name="json-with-warehouses-as-names",
        content='[{"sku":"NSC-BOOK-1","wh_main":3,"Shop location":null}]',
        levels=BOOK,
        says=["1 left alone"],
    ),
    Case(
        name="json-array-not-closed",
        content='[{"sku":"NSC-BOOK-1","warehouse_id":"wh_main","quantity":3},',
        says=["is not valid JSON"],
    ),
    Case(name="html", content="<html><table>", says=["is HTML or XML", "save the sheet as CSV"]),
    Case(name="old-excel", content=b"\xd0\xcf\x11\xe0\xa1\xb1", says=["(.xls)", "as CSV"]),
    Case(name="empty", content="", says=["line 1: is empty: the first line must name the columns"]),
    Case(
        name="separator-line",
        content="sep=;\r\nsku;warehouse_id;quantity\r\nNSC-BOOK-1;wh_main;3\r\n",
        levels=BOOK,
    ),
    Case(
        name="untidy-header",
        content="\n \n SKU ,Warehouse ID,QUANTITY,,\n\nNSC-BOOK-1, wh_main ,3 ,,\n,,,,\n\n",
        levels=BOOK,
    ),
    Case(
        name="extra-empty-cell",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3,\n",
        levels=BOOK,
    ),
    Case(
        name="missing-cell",
        content=f"{COUNTS}NSC-TEE-S,wh_main\n",
        says=["line 2, column 'quantity': is missing"],
    ),
    Case(
        name="nul",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\n\0\0\0\0\n",
        says=["line 3: must not contain the character NUL"],
    ),
    Case(
        name="unclosed-quote",
        content='sku,warehouse_id,quantity,note\nNSC-BOOK-1,wh_main,3,"open\nNSC-TEE-S,wh_main,4,\n',
        says=["line 2: opens a quote that is never closed"],
    ),
    Case(
        name="unclosed-quote-before-another",
        content='sku,warehouse_id,quantity,note\nNSC-BOOK-1,wh_main,3,"open\nX,wh_main,4,"b"\n',
        says=["line 2: opens a quote that is never closed"],
    ),
    Case(
        name="no-header",
        content="NSC-BOOK-1,wh_main,3\n",
        says=["line 1: must name the columns", "sku,warehouse_id,quantity"],
    ),
]
