//! The backends table: the one place that knows which backends are compiled in.

use std::sync::OnceLock;

use runner_manager_core::{Backend, Error, ErrorKind, Result};

/// The backends that the caller of this crate added.
static ADDED: OnceLock<Vec<&'static Backend>> = OnceLock::new();

/// One line a backend: its scheme, which is its feature too, and its crate.
macro_rules! backends {
    ($($scheme:literal => $krate:ident;)*) => {
        /// Every backend of this tree, and its code where it is compiled in.
        fn of_this_tree() -> Vec<(&'static str, Option<&'static Backend>)> {
            vec![$({
                #[cfg(feature = $scheme)]
                let built = Some(&$krate::BACKEND);
                #[cfg(not(feature = $scheme))]
                let built = None;
                ($scheme, built)
            }),*]
        }
    };
}

backends! {
    "ec2" => runner_manager_backend_ec2;
    "libvirt" => runner_manager_backend_libvirt;
    "lxd" => runner_manager_backend_lxd;
    "openstack" => runner_manager_backend_openstack;
    "process" => runner_manager_backend_process;
}

/// Every backend that there is, and its code where it is compiled in.
pub(crate) fn all() -> Vec<(&'static str, Option<&'static Backend>)> {
    let mut all = of_this_tree();
    let added = ADDED.get().into_iter().flatten();
    all.extend(added.map(|backend| (backend.scheme, Some(*backend))));
    all
}

/// Adds backends, once and before anything asks for them.
pub(crate) fn add(added: &[&'static Backend]) -> Result<()> {
    let wrong = |backend: &Backend, why| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the backend {:?} {why}", backend.scheme),
        )
    };
    let keys = crate::config::keys_of_pools();
    let mut taken: Vec<&str> = of_this_tree().iter().map(|(scheme, _)| *scheme).collect();
    for backend in added {
        if keys.iter().any(|key| key == backend.scheme) {
            return Err(wrong(backend, "has the name of a key of pools"));
        }
        if taken.contains(&backend.scheme) {
            return Err(wrong(backend, "is there already"));
        }
        taken.push(backend.scheme);
    }
    ADDED.set(added.to_vec()).map_err(|_| {
        Error::new(
            ErrorKind::Unexpected,
            "backends can be added once in a process",
        )
    })
}

/// The backend of a scheme.
pub(crate) fn find(scheme: &str) -> Result<&'static Backend> {
    let all = all();
    let names = |built: bool| {
        let names = all
            .iter()
            .filter(|(_, backend)| !built || backend.is_some());
        names
            .map(|(scheme, _)| *scheme)
            .collect::<Vec<_>>()
            .join(", ")
    };
    match all.iter().find(|(known, _)| *known == scheme) {
        Some((_, Some(backend))) => Ok(backend),
        Some((_, None)) => {
            let compiled = match names(true) {
                none if none.is_empty() => "none".to_owned(),
                some => some,
            };
            let message = format!(
                "backend `{scheme}` is not compiled in; rebuild with `--features {scheme}` (compiled: {compiled})"
            );
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
        None => {
            let message = format!("unknown backend `{scheme}`; known: {}", names(false));
            Err(Error::new(ErrorKind::InvalidConfig, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use runner_manager_core::Backend;

    #[test]
    fn an_added_backend_takes_no_name_that_is_there() {
        for (scheme, told) in [
            ("process", "the backend \"process\" is there already"),
            ("max", "the backend \"max\" has the name of a key of pools"),
        ] {
            let backend: &Backend = Box::leak(Box::new(Backend {
                scheme,
                summary: "",
                connect: |_, _| Box::pin(async { Err(super::find("").err().unwrap()) }),
                schema: || schemars::schema_for!(()),
            }));
            let error = super::add(&[backend]).unwrap_err();
            assert_eq!(error.to_string(), told);
        }
    }

    #[test]
    fn an_unknown_backend_is_refused_with_those_that_are_known() {
        let error = super::find("zzz").err().map(|e| e.to_string());
        assert_eq!(
            error.as_deref(),
            Some("unknown backend `zzz`; known: ec2, libvirt, lxd, openstack, process")
        );
    }

    #[test]
    fn a_known_backend_is_found_or_named_with_its_feature() {
        match super::find("process") {
            Ok(backend) => assert_eq!(backend.scheme, "process"),
            Err(error) => assert!(error.to_string().contains("--features process"), "{error}"),
        }
    }
}
