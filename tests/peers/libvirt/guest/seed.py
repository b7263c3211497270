#!/usr/bin/python3 -IS
"""Stands in for cloud-init: takes user-data as cloud-init's documentation has it, as far as the
manager's own uses it (hostname, write_files, runcmd)."""

import base64
import gzip
import os
import shutil
import subprocess
import sys

sys.path.append("/usr/lib/python3/dist-packages")
import yaml  # noqa: E402

STATUS = "/run/guest-cloud-init"


def status(word):
    with open(STATUS + ".new", "w", encoding="ascii") as file:
        file.write(f"status: {word}\n")
    os.replace(STATUS + ".new", STATUS)


def write(entry):
    content = entry.get("content", "")
    data = content.encode()
    if entry.get("encoding") in ("b64", "base64"):
        data = base64.b64decode(content)
    path = entry["path"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    mode = int(str(entry.get("permissions", "0644")), 8)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    owner = entry.get("owner", "root:root").split(":")
    shutil.chown(path, *owner)


def run(command):
    if isinstance(command, str):
        command = ["/bin/sh", "-c", command]
    return subprocess.run(command, check=False).returncode


def main(path):
    status("running")
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    if not data.startswith(b"#cloud-config\n"):
        raise ValueError("user-data is no cloud-config")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    config = yaml.load(data, loader)
    for entry in config.get("write_files", []):
        write(entry)
    codes = [run(command) for command in config.get("runcmd", [])]
    status("error" if any(codes) else "done")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as error:  # What went wrong belongs on the console.
        print(f"seed.py: {error}", file=sys.stderr)
        status("error")
        sys.exit(1)
