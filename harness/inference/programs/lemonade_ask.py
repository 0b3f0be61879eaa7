"""Runs on the machine: talk to a Lemonade server on loopback; the answers as one JSON line.

The argument is {"what": "health"|"chat", "ports": [int], "model": str|null, "timeout": seconds}.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from typing import Any

LIMIT = 1 << 20  # bytes of one answer
CONNECT = 3.0  # seconds for a server on loopback
PROGRAMS = ("lemond", "lemonade-server", "lemonade")
PROMPT = "Count from one to fifty in words, separated by commas."


def ask(port: int, path: str, body: dict[str, Any] | None, timeout: float) -> str:
    """One request; raises OSError or ValueError."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        return str(answer.read(LIMIT).decode("utf-8", "replace"))


def main() -> None:
    """Find the server, then do what is asked."""
    request = json.loads(sys.argv[1])
    answer: dict[str, Any] = {"programs": {name: shutil.which(name) for name in PROGRAMS}}
    for port in request["ports"]:
        try:
            answer["health"] = ask(port, "health", None, CONNECT)
        except (OSError, ValueError):
            continue
        answer["port"] = port
        break
    if request["what"] == "chat" and "port" in answer:
        body = {
            "model": request["model"],
            "messages": [{"role": "user", "content": PROMPT}],
            "max_tokens": 128,
            "temperature": 0,
        }
        try:
            begin = time.monotonic()
            answer["chat"] = ask(answer["port"], "chat/completions", body, request["timeout"])
            answer["chat_seconds"] = time.monotonic() - begin
            answer["stats"] = ask(answer["port"], "stats", None, CONNECT)
            answer["health"] = ask(answer["port"], "health", None, CONNECT)
        except urllib.error.HTTPError as error:
            answer["error"] = f"{error}: {error.read(400).decode('utf-8', 'replace')}"
        except (OSError, ValueError) as error:
            answer["error"] = str(error)[:400]
    sys.stdout.write(json.dumps(answer) + "\n")


main()
