//! What the bindings lack: events, and statistics of domains and hosts. The only unsafe code of
//! this crate; what it gives out is safe.
#![expect(
    unsafe_code,
    reason = "calls of the C library that the bindings do not wrap"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

use crate::api::Native;

/// Hears that a domain changed its state, is gone, or that its guest agent came or went. It is
/// called on the thread of libvirt's event loop and must not block.
pub(crate) type Listener = dyn Fn() + Send + Sync;

/// A connection that is listened to.
pub(crate) struct Session {
    pub(crate) connection: Connect,
    callbacks: Vec<c_int>,
}

impl Session {
    /// Calls the listener for every event of a connection, as long as the session lives.
    pub(crate) fn new(connection: Connect, listener: &Arc<Listener>) -> Result<Self, Error> {
        let mut session = Self {
            connection,
            callbacks: Vec::new(),
        };
        type Lifecycle = unsafe extern "C" fn(
            sys::virConnectPtr,
            sys::virDomainPtr,
            c_int,
            c_int,
            *mut c_void,
        ) -> c_int;
        type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
        // SAFETY: libvirt takes every callback as the generic type, and calls it by the type of
        // its event: these two events share one, but for an answer that is not looked at.
        let callback = unsafe { std::mem::transmute::<Lifecycle, Generic>(on_event) };
        for event in [
            sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
        ] {
            let opaque = Box::into_raw(Box::new(Arc::clone(listener)));
            // SAFETY: the connection is open; a null domain stands for all of them; `opaque` is
            // a box that `free` takes back once libvirt needs it no more.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    session.connection.as_ptr(),
                    std::ptr::null_mut(),
                    event.cast_signed(),
                    Some(callback),
                    opaque.cast(),
                    Some(free),
                )
            };
            if id < 0 {
                let error = Error::last_error();
                // SAFETY: libvirt did not take it.
                unsafe { free(opaque.cast()) };
                return Err(error);
            }
            session.callbacks.push(id);
        }
        Ok(session)
    }
}

impl Drop for Session {
    /// May ask the host, and so block.
    fn drop(&mut self) {
        for &id in &self.callbacks {
            // SAFETY: the connection lives. On a dead one this fails, and frees all the same
            // when the connection goes.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connection.as_ptr(), id) };
        }
        if let Err(error) = self.connection.close() {
            tracing::debug!(%error, "a libvirt connection did not close");
        }
    }
}

unsafe extern "C" fn free(opaque: *mut c_void) {
    // SAFETY: it is the box that was given to libvirt, given back once.
    drop(unsafe { Box::from_raw(opaque.cast::<Arc<Listener>>()) });
}

unsafe extern "C" fn on_event(
    _: sys::virConnectPtr,
    _: sys::virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt passes the box that it was given, and frees it after the last call.
    let listener = unsafe { &*opaque.cast::<Arc<Listener>>() };
    listener();
    0
}

/// One active domain of a host.
pub(crate) struct Stats {
    /// The domain itself; its name and UUID cost no call.
    pub(crate) domain: Domain,
    /// Its state.
    pub(crate) native: Native,
    /// What memory it may use, in KiB.
    pub(crate) memory_kib: u64,
    /// Its virtual CPUs.
    pub(crate) vcpus: u32,
}

/// All active domains of a host, in one call.
pub(crate) fn domains(connection: &Connect) -> Result<Vec<Stats>, Error> {
    let wanted =
        sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_BALLOON | sys::VIR_DOMAIN_STATS_VCPU;
    // Numbers that would have to wait for a busy domain are left out.
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut records: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the connection is open, and `records` receives a list that is freed below.
    let count = unsafe {
        sys::virConnectGetAllDomainStats(connection.as_ptr(), wanted, &raw mut records, flags)
    };
    let Ok(count) = usize::try_from(count) else {
        return Err(Error::last_error());
    };
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the list has `count` valid records. The domain outlives its record by the
        // reference that is taken for it.
        unsafe {
            let record = &**records.add(index);
            if sys::virDomainRef(record.dom) == 0 {
                found.push(stats(Domain::from_ptr(record.dom), record));
            }
        }
    }
    // SAFETY: the list came from libvirt, and nothing points into it any more.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(found)
}

/// # Safety
/// The record must be valid.
unsafe fn stats(domain: Domain, record: &sys::_virDomainStatsRecord) -> Stats {
    let mut stats = Stats {
        domain,
        native: Native {
            state: sys::VIR_DOMAIN_NOSTATE,
            reason: 0,
        },
        memory_kib: 0,
        vcpus: 0,
    };
    for index in 0..usize::try_from(record.nparams).unwrap_or_default() {
        // SAFETY: the record has `nparams` parameters, each with a name that ends in NUL.
        let (name, value) = unsafe {
            let parameter = &*record.params.add(index);
            (CStr::from_ptr(parameter.field.as_ptr()), number(parameter))
        };
        let small = || u32::try_from(value).unwrap_or(u32::MAX);
        match name.to_bytes() {
            b"state.state" => stats.native.state = small(),
            b"state.reason" => stats.native.reason = small(),
            b"balloon.maximum" => stats.memory_kib = value,
            b"vcpu.current" => stats.vcpus = small(),
            _ => {}
        }
    }
    stats
}

/// # Safety
/// The parameter must be valid.
unsafe fn number(parameter: &sys::virTypedParameter) -> u64 {
    // SAFETY: the type says which of the union's fields is set.
    unsafe {
        match parameter.type_.cast_unsigned() {
            sys::VIR_TYPED_PARAM_INT => u64::try_from(parameter.value.i).unwrap_or_default(),
            sys::VIR_TYPED_PARAM_UINT => u64::from(parameter.value.ui),
            sys::VIR_TYPED_PARAM_LLONG => u64::try_from(parameter.value.l).unwrap_or_default(),
            sys::VIR_TYPED_PARAM_ULLONG => parameter.value.ul,
            _ => 0,
        }
    }
}

/// The memory that a host can give to guests, in KiB: free, or only caching files.
pub(crate) fn available_kib(connection: &Connect) -> Result<u64, Error> {
    let mut count: c_int = 0;
    let mut ask = |params: *mut sys::virNodeMemoryStats| {
        // SAFETY: the connection is open, and `params` has room for `count` entries.
        let code = unsafe {
            sys::virNodeGetMemoryStats(
                connection.as_ptr(),
                sys::VIR_NODE_MEMORY_STATS_ALL_CELLS,
                params,
                &raw mut count,
                0,
            )
        };
        if code < 0 {
            return Err(Error::last_error());
        }
        Ok(usize::try_from(count).unwrap_or_default())
    };
    let room = ask(std::ptr::null_mut())?;
    let empty = sys::virNodeMemoryStats {
        field: [0 as c_char; 80],
        value: 0,
    };
    let mut entries = vec![empty; room];
    let filled = ask(entries.as_mut_ptr())?.min(room);
    let counts = |name: &CStr| matches!(name.to_bytes(), b"free" | b"buffers" | b"cached");
    Ok(entries[..filled]
        .iter()
        // SAFETY: libvirt ends each name with NUL within its field.
        .filter(|entry| counts(unsafe { CStr::from_ptr(entry.field.as_ptr()) }))
        .map(|entry| entry.value)
        .sum())
}
