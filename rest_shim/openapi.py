"""placeholder"""


def openapi() -> dict[str, object]:
    return {}
