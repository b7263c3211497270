//! Block devices, in the two dialects of instances and launch templates.

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, LaunchTemplateBlockDeviceMappingRequest,
    LaunchTemplateEbsBlockDeviceRequest, VolumeType,
};

use crate::config::{Ec2Config, Volume, VolumeKind};
use crate::image::Resolved;

/// The devices by name. With a launch template the root volume is left to it unless the section
/// says otherwise.
fn all(config: &Ec2Config, image: Option<&Resolved>) -> Vec<(String, Volume)> {
    let root = match (&config.root_volume, &config.launch_template) {
        (Some(root), _) => Some(root.clone()),
        (None, None) => Some(Volume::default()),
        (None, Some(_)) => None,
    };
    let root = image.zip(root).and_then(|(image, mut volume)| {
        volume.size_gib = volume.size_gib.or(image.root_size);
        Some((image.root_device.clone()?, volume))
    });
    let data = config.data_volumes.iter();
    let data = data.map(|data| (data.device.clone(), data.volume.clone()));
    root.into_iter().chain(data).collect()
}

pub(super) fn of_instance(
    config: &Ec2Config,
    image: Option<&Resolved>,
) -> Option<Vec<BlockDeviceMapping>> {
    let mapping = |(device, volume): (String, Volume)| {
        let ebs = EbsBlockDevice::builder()
            .volume_type(kind(volume.kind))
            .set_volume_size(volume.size_gib)
            .set_iops(volume.iops)
            .set_throughput(volume.throughput)
            .encrypted(volume.encrypted)
            .set_kms_key_id(volume.kms_key_id)
            .delete_on_termination(volume.delete_on_termination);
        BlockDeviceMapping::builder()
            .device_name(device)
            .ebs(ebs.build())
            .build()
    };
    let all: Vec<_> = all(config, image).into_iter().map(mapping).collect();
    (!all.is_empty()).then_some(all)
}

pub(super) fn of_template(
    config: &Ec2Config,
    image: Option<&Resolved>,
) -> Option<Vec<LaunchTemplateBlockDeviceMappingRequest>> {
    let mapping = |(device, volume): (String, Volume)| {
        let ebs = LaunchTemplateEbsBlockDeviceRequest::builder()
            .volume_type(kind(volume.kind))
            .set_volume_size(volume.size_gib)
            .set_iops(volume.iops)
            .set_throughput(volume.throughput)
            .encrypted(volume.encrypted)
            .set_kms_key_id(volume.kms_key_id)
            .delete_on_termination(volume.delete_on_termination);
        LaunchTemplateBlockDeviceMappingRequest::builder()
            .device_name(device)
            .ebs(ebs.build())
            .build()
    };
    let all: Vec<_> = all(config, image).into_iter().map(mapping).collect();
    (!all.is_empty()).then_some(all)
}

fn kind(kind: VolumeKind) -> VolumeType {
    match kind {
        VolumeKind::Gp3 => VolumeType::Gp3,
        VolumeKind::Gp2 => VolumeType::Gp2,
        VolumeKind::Io1 => VolumeType::Io1,
        VolumeKind::Io2 => VolumeType::Io2,
        VolumeKind::St1 => VolumeType::St1,
        VolumeKind::Sc1 => VolumeType::Sc1,
    }
}
