"""Values, damage by spreadsheets and warehouses in files, each with the outcome it should have."""

from typing import Final

from tests.files.cases import BOOK, COUNTS, Case

VALUE_CASES: Final = [
    *(
        Case(
            name=f"number-{number}",
            content=f'{COUNTS}NSC-BOOK-1,wh_main,"{number}"\n',
            levels={("NSC-BOOK-1", "wh_main"): value},
        )
        for number, value in {
            "12.0000": 12,
            "5.0": 5,
            " 7": 7,
            "007": 7,
            "+7": 7,
            "-0": 0,
            "0.000": 0,
            "1234.000": 1234,
            "'12": 12,
            '=""12""': 12,
            "\u00a07\u00a0": 7,
        }.items()
    ),
    *(
        Case(
            name=f"number-{number}-{decimal}",
            content=f'{COUNTS}NSC-BOOK-1,wh_main,"{number}"\n',
            options=["--decimal", decimal],
            levels={("NSC-BOOK-1", "wh_main"): value},
        )
        for decimal, number, value in [
            *((".", "1,234", 1234), (".", "1.000", 1), (".", "1,234,567.00", 1234567)),
            *((",", "5,0", 5), (",", "1.234,00", 1234), (",", "1.000", 1000)),
            *((".", "1 234", 1234), (".", "1'234", 1234), (",", "1\u202f234", 1234)),
        ]
    ),
    *(
        Case(
            name=f"no-number-{number}",
            content=f'{COUNTS}NSC-BOOK-1,wh_main,"{number}"\n',
            says=[f"line 2, column 'quantity': '{number}' {reason}"],
        )
        for number, reason in {
            **dict.fromkeys(("1,234", "5,0", "1.000", "1.234.567", "1 234"), "is ambiguous"),
            **dict.fromkeys(("7 pcs", "2.5", "TRUE", "½", "\u0665"), "is not a whole number"),
            **dict.fromkeys(("-5", "(5)", "5-", "\u22125", "-5.0"), "is negative"),
            "1.23E+3": "is in scientific notation",
            "9" * 40: "is more than 1,000,000,000,000",
        }.items()
    ),
    *(
        Case(
            name=f"no-number-{number}-{decimal}",
            content=f'{COUNTS}NSC-BOOK-1,wh_main,"{number}"\n',
            options=["--decimal", decimal],
            says=[f"'{number}' {reason}"],
        )
        for decimal, number, reason in [
            (".", "5,0", "does not fit --decimal ."),
            (",", "5.0", "does not fit --decimal ,"),
            (".", "1.234", "is not a whole number"),
        ]
    ),
    *(
        Case(
            name=f"blank-{blank}",
            content=f"{COUNTS}NSC-BOOK-1,wh_main,3\nNSC-TEE-S,wh_main,{blank}\n",
            levels=BOOK,
            says=["1 left alone"],
        )
        for blank in ("", "-", "Not Stocked")
    ),
    Case(
        name="texts-of-spreadsheets",
        content=f'{COUNTS}"=""0120450789""",wh_main,2\n\'01234,wh_main,5\n\'100,wh_main,1\n',
        levels={("0120450789", "wh_main"): 2, ("01234", "wh_main"): 5, ("100", "wh_main"): 1},
    ),
    Case(
        name="decomposed-letters",
        content=f"{COUNTS}U\u0308Gro\u0308ße 42,wh_main,3\n",
        levels={("ÜGröße 42", "wh_main"): 3},
    ),
    Case(
        name="duplicates",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\nNSC-TEE-S,wh_main,1\nNSC-BOOK-1,Main Warehouse,4\n",
        says=[
            "line 2: 'NSC-BOOK-1 in wh_main' is for the same SKU and warehouse",
            "line 4: 'NSC-BOOK-1 in wh_main'",
            "--duplicates sum",
        ],
    ),
    Case(
        name="duplicates-last",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,9\nNSC-BOOK-1,Main Warehouse,3\n",
        options=["--duplicates", "last"],
        levels=BOOK,
    ),
    Case(
        name="duplicates-sum",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,1\nNSC-BOOK-1,wh_main,\nNSC-BOOK-1,wh_main,2\n",
        options=["--duplicates", "sum"],
        levels=BOOK,
    ),
    Case(
        name="duplicates-sum-too-large",
        content=COUNTS + "NSC-BOOK-1,wh_main,1000000000000\n" * 2,
        options=["--duplicates", "sum"],
        says=["adds up with the rows of the same SKU and warehouse to more than"],
    ),
]
DAMAGE_CASES: Final = [
    Case(
        name="lost-leading-zeros",
        content=f"{COUNTS}1234,wh_main,3\n",
        levels={("1234", "wh_main"): 3},
        says=["Warning: '1234' also exists with more zeros", "'01234'"],
    ),
    Case(
        name="lost-leading-zeros-strict",
        content=f"{COUNTS}1234,wh_main,3\n",
        options=["--strict"],
        says=["line 2, column 'sku': '1234' also exists with more zeros", "Bad rows: 1"],
    ),
    Case(
        name="both-codes-are-in-the-file",
        content=f"{COUNTS}1234,wh_main,3\n01234,wh_main,4\n",
        options=["--strict"],
        levels={("1234", "wh_main"): 3, ("01234", "wh_main"): 4},
    ),
    Case(
        name="near-misses",
        content=f"{COUNTS}NOPE-1,wh_main,1\nNSC-TEE-S,wh_nowhere,1\nnsc-book-1,wh_main,1\n"
        "NSC-TEE-S,WH_MAIN,1\n4.26E+12,wh_main,1\n90.75,wh_main,1\n2-Jan,wh_main,1\n"
        "120450789,wh_main,1\n12-Oct,wh_main,1\nNSC TEE S,wh_main,1\n1.00E+05,wh_main,1\n",
        says=[
            "line 2, column 'sku': 'NOPE-1' is not the code of a SKU. Import the SKU first",
            "'wh_nowhere' is neither the id nor the name of a warehouse. `inventory export ",
            "'nsc-book-1' is not the code of a SKU. Did you mean 'NSC-BOOK-1'?",
            "'WH_MAIN' is neither the id nor the name of a warehouse. Did you mean 'wh_main'?",
            "first at line 4",
        ],
    ),
    *(
        Case(
            name=f"near-miss-{code}",
            content=f"{COUNTS}{code},wh_main,1\n",
            says=[f"'{code}' is not the code of a SKU. {hint}"],
        )
        for code, hint in {
            "4.26E+12": "Did you mean '4260000000017'?",
            "90.75": "Did you mean '90.750'?",
            "2-Jan": "Did you mean 'JAN-2'?",
            "120450789": "Did you mean '0120450789'?",
            "NSC TEE S": "Did you mean 'NSC-TEE-S'?",
            "12-Oct": "It looks like a date that a spreadsheet made of a code.",
            "1.00E+05": "It looks like a number that a spreadsheet shortened.",
        }.items()
    ),
    Case(
        name="new-codes-that-are-damaged",
        content="sku,title\n4.26E+12,EAN\nnsc-tee-s,Tee\n120450789,Injector\nFINE,Fine\nA1,x\n",
        options=["--kind", "skus"],
        succeeds=True,
        says=[
            "line 2, column 'sku': Warning: '4.26E+12' looks like a number that a spreadsheet",
            "Warning: 'nsc-tee-s' differs from another code only in case or in zeros. The existing "
            "code is 'NSC-TEE-S'.",
            "The existing code is '0120450789'.",
            "skus: 5 created",
        ],
    ),
    Case(
        name="numbers-that-differ-by-a-point",
        content="sku,title\n9075,x\n907.50,x\nNSC TEE S,x\n",
        options=["--kind", "skus", "--strict"],
        succeeds=True,
        says=["skus: 3 created"],
    ),
    Case(
        name="new-codes-that-are-damaged-strict",
        content="sku,title\n4.26E+12,EAN\nFINE,Fine\n",
        options=["--kind", "skus", "--strict"],
        says=["line 2, column 'sku': '4.26E+12' looks like", "Bad rows: 1; nothing was changed."],
    ),
    Case(
        name="trimmed-codes",
        content="sku,title\nTRAIL-SPACE ,one\nTRAIL-SPACE,two\n",
        options=["--kind", "skus"],
        says=["Warning: 'TRAIL-SPACE ' has spaces at its edge", "line 3: 'TRAIL-SPACE' is for the"],
    ),
    Case(
        name="terminal-escapes",
        content="sku,\x1b[31mwarehouse_id\x1b[0m,quantity\nA,b,1\n",
        says=["'\\x1b[31mwarehouse_id\\x1b[0m'"],
    ),
    Case(
        name="terminal-escapes-in-a-name-of-json",
        content='{"\x1b[31m":1,"\x1b[31m":1}\n'.replace("\x1b", "\\u001b"),
        says=["names twice: '\\x1b[31m'"],
    ),
    Case(
        name="long-name-of-json",
        content=f'{{"{"x" * 5000}":1,"{"x" * 5000}":1}}\n',
        says=[f"names twice: '{'x' * 39}…'"],
    ),
    Case(
        name="many-rows-with-one-cause",
        content=COUNTS + "".join(f"S{number},wh_main,-{number}\n" for number in range(1, 2858)),
        says=["2,857 rows, first at line 2, column 'quantity': '-1' is negative."],
    ),
    Case(
        name="long-value",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,{'x' * 5000}\n",
        says=[f"'{'x' * 39}…' is not a whole number"],
    ),
]
WAREHOUSE_CASES: Final = [
    Case(
        name="marketplace-count",
        content=f"{COUNTS}NSC-BOOK-1,wh_fba,22\n",
        says=["'22' is refused: Warehouse wh_fba is FBA", "--kind reports"],
    ),
    Case(
        name="marketplace-counts-in-a-column-for-each-warehouse",
        content="sku,AMAZON de,Main warehouse\nNSC-BOOK-1,22,3\n",
        says=["line 2, column 'AMAZON de': '22' is refused: Warehouse wh_fba is FBA"],
    ),
    Case(
        name="reports-in-a-column-for-each-warehouse",
        content="sku,wh_shop,Main Warehouse\nNSC-BOOK-1,2,3\n",
        options=["--kind", "reports"],
        says=[
            "line 2, column 'wh_shop': 'wh_shop' is not a warehouse of the type FBA, FBS or 3PL",
            "line 2, column 'Main Warehouse': 'wh_main' is not a warehouse of the type FBA",
        ],
    ),
    Case(
        name="marketplace-report",
        content=f"{COUNTS}NSC-BOOK-1,Amazon DE,22\n",
        options=["--kind", "reports"],
        levels={("NSC-BOOK-1", "wh_fba"): 22},
    ),
    Case(
        name="report-of-an-own-warehouse",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,22\n",
        options=["--kind", "reports"],
        says=[
            "'wh_main' is not a warehouse of the type FBA, FBS or 3PL",
            "--kind counts",
        ],
    ),
    Case(
        name="report-from-the-future",
        content=f"{COUNTS}NSC-BOOK-1,wh_fba,22\n",
        options=["--kind", "reports", "--reported-at", "2999-01-01"],
        says=["is of a report whose time must not be in the future", "--reported-at"],
    ),
    Case(
        name="warehouse-of-all-rows",
        content="sku,quantity\nNSC-BOOK-1,3\n",
        options=["--warehouse", "Main Warehouse"],
        levels=BOOK,
    ),
    Case(
        name="warehouses-by-name",
        content="name,type\nMain Warehouse,own\nLager Süd,Own\nPick & Pack,3pl\nLAGER  SÜD,own\n",
        options=["--kind", "warehouses"],
        says=["is for the same warehouse as another row"],
    ),
    Case(
        name="existing-warehouse-by-name",
        content="name,type,is_active\nmain warehouse,own,TRUE\nLager Süd,Own,yes\n",
        options=["--kind", "warehouses"],
        succeeds=True,
        says=["warehouses: 1 created, 1 updated, 0 unchanged."],
    ),
    Case(
        name="twin-name-with-another-id",
        content="id,name,type\nwh_2,Main Warehouse,own\n",
        options=["--kind", "warehouses"],
        says=["'Main Warehouse' is the name of the warehouse 'wh_main' already"],
    ),
    Case(
        name="new-skus-and-warehouses",
        content="sku,title,warehouse,quantity\nNEW-1,New,Lager Süd,3\nNEW-1,New,Lager Nord,4\n",
        options=["--create-skus", "--create-warehouses", "--dry-run"],
        succeeds=True,
        says=["New SKUs: 1: 'NEW-1'.", "New warehouses: 2: '"],
    ),
    Case(
        name="good-rows-alone",
        content=f"{COUNTS}NSC-BOOK-1,wh_main,3\nNSC-TEE-S,wh_main,-1\nNOPE,wh_main,1\n",
        options=["--on-error", "continue"],
        levels=BOOK,
        says=["'-1' is negative", "'NOPE' is not the code of a SKU", "2 refused"],
    ),
    Case(
        name="no-part-of-an-unreadable-file",
        content=f'{COUNTS}NSC-BOOK-1,wh_main,3\n"NSC-TEE-S,wh_main,1\n',
        options=["--on-error", "continue"],
        says=["The file cannot be imported; nothing was changed."],
    ),
]
