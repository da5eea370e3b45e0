# For type checkers alone: the modes of `makefile`, by what they give, and its other arguments. (Modes as typeshed has them.)

from typing import Literal, TypeAlias, TypedDict

Read: TypeAlias = Literal["rb", "br", "b"]
Write: TypeAlias = Literal["wb", "bw"]
ReadWrite: TypeAlias = Literal["rwb", "rbw", "wrb", "wbr", "brw", "bwr"]
Text: TypeAlias = Literal["r", "w", "rw", "wr", ""]

class Rest(TypedDict, total=False):
    encoding: str | None
    errors: str | None
    newline: str | None
