"""What the tests of `test_fuzz_*.py` have in common: how many examples they try, and texts and bytes that are meant ill.

`FUZZ=100` in the environment makes it a hundred times as many (`make fuzz`). What has failed once is kept as an `@example`
beside its test; hypothesis keeps nothing in a database, and what it keeps of its own is with pytest's cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(str(Path(__file__).parent.parent / ".pytest_cache" / "hypothesis"))

#: How many times as many examples as usual.
FACTOR = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Settings of a test that tries so many examples."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,  # a test says the same each time; it is the long run that tries others
        deadline=None,
        database=None,
        # What is slow here is a machine that others use as well; and the fixture that looks for leaks is for all examples.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


# Texts

#: What has a meaning in a path, to a shell, to Windows, or to who looks at it.
NASTY = [
    *(
        "/",
        "\\",
        "..",
        ".",
        "../",
        "..\\",
        "//",
        "/./",
        "C:",
        "C:\\",
        "\\\\?\\",
        ":",
        "::$DATA",
        "~",
        "~root",
        "-",
        "--",
        "-rf",
    ),
    *("%2f", "%2F", "%5c", "%2e%2e", "%00", "%0d%0a", "%252F", "%", "%zz", "%c0%af", "%ff", "%e2%80%ae", "%ud800"),
    *(
        "\0",
        "\r",
        "\n",
        "\r\n",
        "\t",
        "\x0b",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\x9b",
        "\x1c",
        " ",
        "\u00a0",
        "\u3000",
        "\u2028",
    ),
    *(
        "\u202e",
        "\u202d",
        "\u2066",
        "\u2069",
        "\u200e",
        "\u200f",
        "\u061c",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u00ad",
    ),
    *("\ud800", "\udcff", "\udc2f", "\U000e0001", "\U000e002f", "\ufff9", "\ufffe", "\U0010ffff", "\ue000"),
    # They look like separators and dots, or become what they are not by normalisation or in upper case.
    *(
        "\uff0f",
        "\u2215",
        "\u2044",
        "\uff3c",
        "\u2024",
        "\u2025",
        "\uff0e",
        "\u037e",
        "\u1fef",
        "\u212a",
        "\u2126",
        "\u0131",
        "\u0130",
        "\ufb00",
    ),
    *(
        "e\u0301",
        "\u0301",
        "<\u0338",
        "=\u0338",
        "\u1100\u1161",
        "\u0344",
        "日本",
        "\u0645\u06cc",
        "\U0001f600",
        "\u00df",
        "\u01c5",
    ),
    *(
        "CON",
        "con.txt",
        "NUL",
        "nul .x",
        "AUX.tar.gz",
        "PRN",
        "COM1",
        "COM\u00b9",
        "lpt9.",
        "LPT\u00b3",
        "CLOCK$",
        "conin$",
    ),
    *(".part", ".PART", ".part.json", ".Part.Json.New", ".json", ".new", ".tar.gz", ".exe", ".bashrc", "a", "file.txt"),
    *(
        '"',
        "'",
        "`",
        "$(x)",
        ";",
        "&",
        "|",
        "*",
        "?",
        "<",
        ">",
        "=",
        "!",
        "#",
        ",",
        "utf-8''",
        "UTF-8'en'",
        "iso-8859-1''",
    ),
]

#: Texts of such pieces, some of them very long.
nasty_texts = st.builds(
    "".join,
    st.lists(
        st.one_of(
            st.sampled_from(NASTY),
            st.text(st.characters(), max_size=4),
            st.builds(lambda piece, count: piece * count, st.sampled_from(NASTY), st.sampled_from([2, 30, 240, 300])),
        ),
        max_size=8,
    ),
)


@st.composite
def mutated(draw: Any, originals: Any, others: Any) -> Any:
    """What is well-formed, of str or of bytes, with a few parts of it cut out, doubled, or replaced by something."""
    text = draw(originals)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 8)))
        middle = draw(st.one_of(st.just(text[:0]), st.just(text[start:end] * 2), others))
        text = text[:start] + middle + text[end:]
    return text


#: Where bytes are torn; see `pieces`.
cuts = st.lists(st.integers(1, 400), max_size=12)


def pieces(whole: bytes, at: list[int]) -> list[bytes]:
    """Bytes cut into pieces, in order, none of them empty."""
    edges = [0, *sorted({cut for cut in at if cut < len(whole)}), len(whole)]
    return [whole[start:end] for start, end in pairwise(edges) if start < end]
