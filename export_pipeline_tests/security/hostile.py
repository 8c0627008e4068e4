"""Names as an attacker would choose them, all of which S3 allows as the end of a key."""

LONGEST = "漢" * 300 + "😀" * 20
"""980 bytes of UTF-8: with ``2026/11/23/00/`` and ``.gz`` a key of at most 1,024."""

FORGED = "x\n2026-11-23 00:00:00 +0000 - dagster - ERROR - export_job - everything is lost"

HOSTILE = [
    FORGED,
    "\x1b[2J\x1b]0;owned\x07\x1b[31mred",
    "carriage\rreturn",
    "\u202efdp.exe",
    "\u2028line\u2029paragraph\x85",
    "../../../../../../tmp/escaped",
    "/etc/cron.d/escaped",
    "..\\..\\escaped",
    "C:\\Windows\\System32\\x",
    "CON",
    "aux.txt.",
    "a:b*?|",
    "~/.ssh/authorized_keys",
    "$(touch escaped)",
    "<img src=x onerror=alert(1)>",
    "`</code><script>alert(1)</script>`",
    "](javascript:alert(1))",
    "[red]bold[/red]",
    '=cmd|"/C calc"!A0',
    "%s%n{0}",
    LONGEST,
]
