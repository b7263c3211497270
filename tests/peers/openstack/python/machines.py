"""A hypervisor: Nova's fake driver, with a machine of namespaces behind every server.

A machine has process, mount and host-name namespaces of its own and a root that is the
peer's, overlaid: what it writes goes with it. Its SSH server stands in the network namespace
that owns the servers' addresses. `machine/boot` is its first process.

As a program: `machines.py stop FOLDER`.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time

STATE = os.environ.get("RM_PEER_STATE", "")


def folder_of(uuid):
    return os.path.join(STATE, "machines", uuid)


def boot(folder):
    """Starts a machine; what is in its folder says how."""
    with open(os.path.join(folder, "console.log"), "ab") as console:
        # The folder of a machine is on a file system that can be the top of an overlay.
        process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--uts", "--fork", "--kill-child",
             os.path.join(os.environ["RM_PEER_MACHINE"], "boot"), folder],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
        )
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        started = stat.read().rsplit(")", 1)[1].split()[19]
    with open(os.path.join(folder, "pid"), "w", encoding="ascii") as file:
        file.write(f"{process.pid} {started}")
    return process


def is_alive(folder):
    try:
        with open(os.path.join(folder, "pid"), encoding="ascii") as file:
            pid, started = file.read().split()
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except (OSError, ValueError):
        return None
    return int(pid) if fields[19] == started and fields[0] != "Z" else None


def stop(folder):
    """Cuts a machine's power: all its processes end with its first one."""
    end = time.time() + 10
    while (pid := is_alive(folder)) and time.time() < end:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            break
        time.sleep(0.02)


if __name__ == "__main__":
    stop(sys.argv[2])
    sys.exit()

from nova.compute import power_state  # noqa: E402
from nova.virt import fake, hardware  # noqa: E402


def image_of(image_meta, block_device_info):
    """What a server boots: the name of its image, or what its boot volume holds of one."""
    for volume in (block_device_info or {}).get("block_device_mapping") or []:
        with open(volume["connection_info"]["data"]["path"], "rb") as file:
            return file.readline(80).decode("ascii").strip()
    return image_meta.name or "plain"


class MachineDriver(fake.FakeDriver):
    """What Nova does to servers is done to machines."""

    # Room for hundreds.
    vcpus, memory_mb, local_gb = 1000, 8_000_000, 600_000

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.children = {}

    def _boot(self, folder):
        for pid in [pid for pid, child in self.children.items() if child.poll() is not None]:
            del self.children[pid]
        child = boot(folder)
        self.children[child.pid] = child

    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations,
              network_info=None, block_device_info=None, *args, **kwargs):
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations,
                      network_info, block_device_info, *args, **kwargs)
        image = image_of(image_meta, block_device_info)
        if image == "blank":
            return
        folder = folder_of(instance.uuid)
        os.makedirs(folder, mode=0o755)
        addresses = [ip["address"] for vif in network_info or [] for ip in vif.fixed_ips()]
        with open(os.path.join(folder, "metadata.json"), "w", encoding="utf-8") as file:
            json.dump({
                "name": instance.display_name,
                "uuid": instance.uuid,
                "addresses": addresses,
                "public_key": instance.key_data or "",
                "runner": os.path.join(STATE, "runners", image),
            }, file)
        with open(os.path.join(folder, "user-data"), "wb") as file:
            os.chmod(file.name, 0o600)
            file.write(base64.b64decode(instance.user_data or ""))
        self._boot(folder)

    def destroy(self, context, instance, *args, **kwargs):
        folder = folder_of(instance.uuid)
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)
        super().destroy(context, instance, *args, **kwargs)

    def power_off(self, instance, *args, **kwargs):
        stop(folder_of(instance.uuid))
        super().power_off(instance, *args, **kwargs)

    def power_on(self, context, instance, *args, **kwargs):
        if os.path.isdir(folder_of(instance.uuid)):
            self._boot(folder_of(instance.uuid))
        super().power_on(context, instance, *args, **kwargs)

    def get_info(self, instance, use_cache=True):
        info = super().get_info(instance, use_cache)
        folder = folder_of(instance.uuid)
        if os.path.exists(os.path.join(folder, "pid")) and not is_alive(folder):
            return hardware.InstanceInfo(state=power_state.SHUTDOWN)
        return info

    def get_console_output(self, context, instance):
        try:
            with open(os.path.join(folder_of(instance.uuid), "console.log"), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return super().get_console_output(context, instance)
