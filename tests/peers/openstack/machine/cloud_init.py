"""The part of cloud-init that user-data needs here: keys, files and commands.

Stages: `early` (SSH keys, the default user, files) and `final` (scripts and commands). Merging
follows cloud-init for what is used: lists are appended, maps are joined.
"""

import base64
import email
import gzip
import json
import os
import subprocess
import sys

import yaml

HERE = "/run/machine"
USER = "ubuntu"


def read():
    with open(f"{HERE}/metadata.json", encoding="utf-8") as file:
        metadata = json.load(file)
    with open(f"{HERE}/user-data", "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    config, scripts = {}, []
    for part in email.message_from_bytes(data).walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True) or b""
        if payload.startswith(b"#cloud-config"):
            for key, value in (yaml.safe_load(payload) or {}).items():
                if isinstance(value, list):
                    config[key] = config.get(key, []) + value
                elif isinstance(value, dict):
                    config[key] = {**config.get(key, {}), **value}
                else:
                    config[key] = value
        elif payload.startswith(b"#!"):
            scripts.append(payload)
    return metadata, config, scripts


def write(path, content, mode=0o644, owner=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    if owner:
        subprocess.run(["chown", owner, path], check=True)


def status(word):
    write("/run/cloud-init-status", word.encode())


def early(metadata, config):
    status("running")
    subprocess.run(["hostname", config.get("hostname", "machine")], check=True)
    if subprocess.run(["id", USER], capture_output=True, check=False).returncode:
        subprocess.run(
            ["useradd", "--create-home", "--password", "*", "--shell", "/bin/bash", USER], check=True
        )
    write(f"/home/{USER}/.ssh/authorized_keys", metadata["public_key"].encode() + b"\n", 0o600)
    subprocess.run(["chown", "-R", f"{USER}:", f"/home/{USER}/.ssh"], check=True)
    keys = config.get("ssh_keys", {})
    if "ed25519_private" in keys:
        write(f"{HERE}/host_key", keys["ed25519_private"].encode(), 0o600)
    else:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{HERE}/host_key"], check=True)
    listen = "".join(f"ListenAddress {address}\n" for address in metadata["addresses"])
    write(f"{HERE}/sshd_config", (
        f"Port 22\n{listen}HostKey {HERE}/host_key\nAuthorizedKeysFile .ssh/authorized_keys\n"
        "PidFile none\nUsePAM no\nPasswordAuthentication no\nMaxStartups 100\nMaxSessions 100\n"
    ).encode())
    for entry in config.get("write_files", []):
        content = entry.get("content", "").encode()
        if entry.get("encoding") in ("b64", "base64"):
            content = base64.b64decode(content)
        write(entry["path"], content, int(entry.get("permissions", "0644"), 8), entry.get("owner"))


def final(config, scripts):
    failed = False
    for index, script in enumerate(scripts):
        path = f"/var/lib/cloud/scripts/part-{index:03}"
        write(path, script, 0o700)
        failed |= subprocess.run([path], check=False, stdin=subprocess.DEVNULL).returncode != 0
    for command in config.get("runcmd", []):
        words = command if isinstance(command, list) else ["sh", "-c", command]
        failed |= subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode != 0
    status("error" if failed else "done")


if __name__ == "__main__":
    what = read()
    if sys.argv[1] == "early":
        early(what[0], what[1])
    else:
        final(what[1], what[2])
