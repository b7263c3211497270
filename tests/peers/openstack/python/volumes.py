"""A storage of Cinder: every volume is a file, which our hypervisor opens where it lies."""

import os

from cinder.volume import driver

FOLDER = os.path.join(os.environ["RM_PEER_STATE"], "cinder", "volumes")


class FileDriver(driver.VolumeDriver):
    """Volumes that take no room until they are written to."""

    VERSION = "1.0.0"

    @staticmethod
    def _path(volume):
        return os.path.join(FOLDER, volume.id)

    def check_for_setup_error(self):
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)

    def create_volume(self, volume):
        with open(self._path(volume), "wb") as file:
            file.truncate(volume.size << 30)

    def delete_volume(self, volume):
        try:
            os.unlink(self._path(volume))
        except FileNotFoundError:
            pass

    def copy_image_to_volume(self, context, volume, image_service, image_id,
                             disable_sparse=False):
        with open(self._path(volume), "r+b") as file:
            image_service.download(context, image_id, file)

    def ensure_export(self, context, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector):
        return {"driver_volume_type": "fake", "data": {"path": self._path(volume)}}

    def terminate_connection(self, volume, connector, **kwargs):
        pass

    def _update_volume_stats(self):
        self._stats = {
            "volume_backend_name": "files",
            "vendor_name": "peer",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "total_capacity_gb": "infinite",
            "free_capacity_gb": "infinite",
            "reserved_percentage": 0,
            "QoS_support": False,
        }
