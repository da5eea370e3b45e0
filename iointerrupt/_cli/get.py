"""`iointerrupt get`: the options, and how they become downloads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from iointerrupt._cli.manual import ManualCommand, option, option_name
from iointerrupt._cli.values import Header, Proxy, Scheduler, Seconds, Size, Url, User
from iointerrupt._cli.wanted import wanted

if TYPE_CHECKING:
    from iointerrupt._cli.getting import Getting

WHERE = "WHAT AND WHERE"
TRANSFER = "TRANSFER"
LIMITS = "LIMITS"
REQUEST = "REQUEST"
DISPLAY = "DISPLAY"

SECTIONS = {
    "OUTPUT": """
        On a terminal, stderr shows a bar for each file under way, and one for all where there are several. stdout gets a
        line for each file that is done: its name, size and speed, and where it was resumed. Errors are on stderr, a line
        for each file that failed.

        With --json, stdout gets one object a line. Each has "event", and all but the last have "url" and "path" (null while
        it is not known):

        \b
        start     size, done, resumed_from
        progress  size, done, resumed_from, speed, eta, state; each 0.2 s
        retry     size, done, resumed_from, attempt, message
        done      size, done, resumed_from, seconds, speed, checksum,
                  unchanged, skipped
        failed    size, done, resumed_from, error, message
        stopped   size, done, resumed_from
        summary   total, done, failed, stopped, bytes, seconds, exit

        Sizes are bytes, null where the server does not say; times are seconds; "error" is the name of a class of
        iointerrupt.downloads.
    """,
    "EXAMPLES": """
        \b
        Fetch a file, or go on with it:
          iointerrupt get https://example.org/disk.iso

        \b
        Verify it against the list beside it, over four connections:
          iointerrupt get --segments 4 --checksum https://example.org/SHA256SUMS \\
              https://example.org/disk.iso

        \b
        Fetch a list, eight files at a time, with at most 2 MiB a second in all:
          iointerrupt get -i urls.txt -d downloads -j 8 --max-rate 2M

        \b
        Unpack while it comes:
          iointerrupt get -o - https://example.org/src.tar.gz | tar xz

        \b
        Have the workers of a cluster fetch a list, into a folder that they share:
          iointerrupt get -i urls.txt -d /shared/downloads --dask tcp://scheduler:8786
    """,
    "CLUSTER": """
        With --dask, the workers of a Dask cluster fetch the files, by the names that they have there: the folder is one that
        all of them see, such as one on a shared disk. What a worker that is lost was at is gone on with by another one.
        `--dask local` makes a cluster of processes on this machine, which end with the command. --jobs is for each worker, and
        to one host there are 8 connections in all, or as many as --jobs says where that is more.

        Proxies, certificates and passwords are those of the workers' environment. Scheduler and workers need this program too, and
        this one needs `pip install "iointerrupt[dask]"`.
    """,
    "EXIT STATUS": """
        \b
        0     all are done
        1     some failed
        2     the command line was not understood
        130   stopped by SIGINT (Ctrl-C); 143 by SIGTERM
        141   nobody reads standard output any more
    """,
    "FILES": """
        \b
        NAME.part        what has come of NAME; it gets its name when it is complete
        NAME.part.json   which version of the file that is, for the next run
        ~/.netrc         names and passwords, by host

        A list (-i) has one URL a line, and behind it, if wanted, white space and the NAME below the folder. Empty lines and
        lines that begin with # are skipped.

        What has come is gone on with by the next run, if the server still has the same file; else it begins anew.
    """,
    "SIGNALS": """
        SIGINT and SIGTERM stop all downloads at once. What has come is kept, and stderr shows the command that goes on. A
        second one ends the program without waiting for anything.
    """,
    "ENVIRONMENT": """
        http_proxy, https_proxy, no_proxy, REQUESTS_CA_BUNDLE and NETRC are obeyed.
    """,
}


@click.command(cls=ManualCommand, sections=SECTIONS, short_help="Download files.")
@click.argument("urls", nargs=-1, type=Url(), metavar="URL...")
@option(
    "-o", "--output", group=WHERE, metavar="FILE", type=click.Path(allow_dash=True),
    help="Name of the file; - for standard output. With one URL only.",
)  # fmt: skip
@option(
    "-d", "--dir", "folder", group=WHERE, metavar="DIR", type=click.Path(file_okay=False),
    help="Folder for the files, made if needed. Default: the current one.",
)  # fmt: skip
@option(
    "-i", "--input", "lists", group=WHERE, metavar="LIST", multiple=True, type=click.Path(dir_okay=False, allow_dash=True),
    help="File of URLs, one a line; - for standard input. See FILES.",
)  # fmt: skip
@option("--overwrite", group=WHERE, is_flag=True, help="Replace files that are there.")
@option("--update", group=WHERE, is_flag=True, help="Replace files that are there if the server has others by now.")
@option("--skip-existing", group=WHERE, is_flag=True, help="Take files that are there for done.")
@option(
    "--checksum", group=WHERE, metavar="ALG:HEX",
    help="What the file has to be, as in sha256:9F86...; or the URL or path of a list such as SHA256SUMS.",
)  # fmt: skip
@option(
    "-j", "--jobs", group=TRANSFER, metavar="N", type=click.IntRange(1, 256), default=4,
    help="Files at a time (default: 4).",
)  # fmt: skip
@option(
    "--segments", group=TRANSFER, metavar="N", type=click.IntRange(1, 64), default=1,
    help="Connections for one file (default: 1).",
)  # fmt: skip
@option(
    "--mirror", "mirrors", group=TRANSFER, metavar="URL", type=Url(), multiple=True,
    help="Another URL of the same file, for when the first fails. May be repeated.",
)  # fmt: skip
@option(
    "--retries", group=TRANSFER, metavar="N", type=click.IntRange(0), default=5,
    help="Further tries in a row that may get nowhere (default: 5).",
)  # fmt: skip
@option(
    "--resume/--no-resume", group=TRANSFER, default=True,
    help="Go on with NAME.part (the default), or begin anew.",
)  # fmt: skip
@option("--preallocate", group=TRANSFER, is_flag=True, help="Reserve the room on the disk first.")
@option(
    "--dask", group=TRANSFER, metavar="ADDRESS", type=Scheduler(),
    help="Have a Dask cluster fetch them: that of the scheduler tcp://HOST:PORT, or `local`. See CLUSTER.",
)  # fmt: skip
@option(
    "--timeout", group=LIMITS, metavar="S", type=Seconds(), default="30",
    help="Seconds without a byte (default: 30); 0 for no limit.",
)  # fmt: skip
@option("--deadline", group=LIMITS, metavar="S", type=Seconds(), help="Seconds for a file, with all its tries.")
@option("--max-rate", group=LIMITS, metavar="SIZE", type=Size(), help="Bytes a second for all, as in 500k, 2M, 1.5G.")
@option("--min-speed", group=LIMITS, metavar="SIZE", type=Size(), help="Bytes a second below which a try is given up.")
@option("--max-size", group=LIMITS, metavar="SIZE", type=Size(), help="Refuse larger files.")
@option(
    "-H", "--header", "headers", group=REQUEST, metavar="'K: V'", type=Header(), multiple=True,
    help="A header for the requests. May be repeated.",
)  # fmt: skip
@option(
    "-u",
    "--user",
    group=REQUEST,
    metavar="NAME:PASSWORD",
    type=User(),
    help="For the server. ~/.netrc does not show in the history.",
)
@option("--proxy", group=REQUEST, metavar="URL", type=Proxy(), help="An http, https or socks proxy.")
@option(
    "--cacert", group=REQUEST, metavar="FILE", type=click.Path(exists=True, readable=True),
    help="Certificates to trust instead of the usual ones.",
)  # fmt: skip
@option("-k", "--insecure", group=REQUEST, is_flag=True, help="Trust every certificate.")
@option("-q", "--quiet", group=DISPLAY, is_flag=True, help="Show errors only.")
@option("--json", "as_json", group=DISPLAY, is_flag=True, help="Print events as JSON, one a line. See OUTPUT.")
@click.pass_obj
def get(argv: list[str], /, urls: Sequence[str], **given: Any) -> int:
    """Download files over http and https.

    Each appears under its name when it is complete. Until then it is NAME.part, and the same command goes on with it after
    a stop, a crash or a broken connection, if the server still has the same file.
    """
    if not urls and not given["lists"]:
        raise click.UsageError("which file? Give a URL, or a list of them with -i")
    _check(urls, given)
    files = wanted(urls, given["lists"], given["output"], given["folder"])
    return _getting(given)(argv, files, given).run()


def _getting(given: dict[str, Any]) -> type[Getting]:
    if not given["dask"]:
        from iointerrupt._cli.getting import Getting  # noqa: PLC0415 - loads requests, which --help need not wait for

        return Getting
    try:
        import iointerrupt.dask  # noqa: F401, PLC0415 - says what to install
        from iointerrupt._cli.cluster import ClusterGetting  # noqa: PLC0415 - loads Dask
    except ImportError as error:
        raise click.UsageError(f"--dask: {error}") from None
    return ClusterGetting


# What a worker cannot be told, and why.
_NOT_WITH_DASK = {
    "segments": "there a file has one connection, so that no host gets too many",
    "max_rate": "no worker knows how much the others take",
    "user": "the workers have their own ~/.netrc",
    "proxy": "the workers have their own environment",
    "cacert": "the workers have their own environment",
    "insecure": "the workers trust what they trust",
}


def _check_cluster(given: dict[str, Any]) -> None:
    for name, reason in _NOT_WITH_DASK.items():
        if given[name] > 1 if name == "segments" else given[name]:
            raise click.UsageError(f"{option_name(name)} and --dask exclude each other: {reason}")
    if given["output"] == "-":
        raise click.UsageError("-o - and --dask exclude each other: the workers have other standard outputs")


def _check(urls: Sequence[str], given: dict[str, Any]) -> None:
    one = len(urls) == 1 and not given["lists"]
    ways = [name for name in ("overwrite", "update", "skip_existing") if given[name]]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(map(option_name, ways))} exclude each other")
    if given["quiet"] and given["as_json"]:
        raise click.UsageError("--quiet and --json exclude each other")
    if given["cacert"] and given["insecure"]:
        raise click.UsageError("--cacert and --insecure exclude each other")
    if given["mirrors"] and not one:
        raise click.UsageError("--mirror is another URL of one file; give one URL")
    if given["checksum"] and not one and re.fullmatch(r"[\w-]+:[0-9a-fA-F]+", given["checksum"]):
        raise click.UsageError("--checksum ALG:HEX is that of one file; for several give a list such as SHA256SUMS")
    if given["output"] == "-" and given["as_json"]:
        raise click.UsageError("-o - and --json both want standard output")
    if given["min_speed"] and given["max_rate"] and given["min_speed"] > given["max_rate"]:
        raise click.UsageError("--min-speed is more than --max-rate allows")
    if given["dask"]:
        _check_cluster(given)
    names = [name.lower() for name, _ in given["headers"]]
    if twice := {name for name in names if names.count(name) > 1}:
        raise click.UsageError(f"the header {twice.pop()} is given twice")
