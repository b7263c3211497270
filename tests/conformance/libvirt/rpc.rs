//! As much of libvirt's RPC as a proxy needs: <https://libvirt.org/kbase/internals/rpc.html>, and
//! `src/remote/remote_protocol.x` of libvirt. Numbers are big-endian, texts are padded to four.

use std::io::{self, Read};

/// Where each number of a header is: length, program, version, procedure, type, serial, status.
const HEADER: usize = 28;
const REMOTE: u32 = 0x2000_8086;
const QEMU: u32 = 0x2000_8087;
const CALL: u32 = 0;
const REPLY: u32 = 1;

/// The procedures that faults are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Procedure {
    CreateDomain,
    DestroyDomain,
    DomainState,
    AllDomainStats,
    ListAllDomains,
    CreateVolume,
    DeleteVolume,
    AgentCommand,
    Other,
}

/// One message, with its length in front.
#[derive(Debug, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Reads the next message; `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let size = u32::from_be_bytes(length) as usize;
        if !(HEADER..=64 << 20).contains(&size) {
            return Err(io::Error::other("a message of a strange length"));
        }
        let mut bytes = length.to_vec();
        bytes.resize(size, 0);
        from.read_exact(&mut bytes[4..])?;
        Ok(Some(Self(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn number(&self, at: usize) -> u32 {
        let bytes = self.0[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    }

    pub(crate) fn serial(&self) -> u32 {
        self.number(20)
    }

    /// What is called, if this is a call.
    pub(crate) fn call(&self) -> Option<Procedure> {
        if self.number(16) != CALL {
            return None;
        }
        match (self.number(4), self.number(12)) {
            (REMOTE, 10) => Some(Procedure::CreateDomain),
            (REMOTE, 12) => Some(Procedure::DestroyDomain),
            (REMOTE, 93) => Some(Procedure::CreateVolume),
            (REMOTE, 94) => Some(Procedure::DeleteVolume),
            (REMOTE, 212) => Some(Procedure::DomainState),
            (REMOTE, 273) => Some(Procedure::ListAllDomains),
            (REMOTE, 344) => Some(Procedure::AllDomainStats),
            (QEMU, 3) => Some(Procedure::AgentCommand),
            (REMOTE | QEMU, _) => Some(Procedure::Other),
            // The keepalive of the connection.
            _ => None,
        }
    }

    /// Whether this answers a call, and went well.
    pub(crate) fn is_reply(&self) -> bool {
        self.number(16) == REPLY
    }

    pub(crate) fn is_good(&self) -> bool {
        self.number(24) == 0
    }

    /// The name of the domain that a call begins with.
    pub(crate) fn domain(&self) -> Option<String> {
        Reader(&self.0[HEADER..]).text().ok()
    }

    /// The body of a reply.
    pub(crate) fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// The same message with another body.
    pub(crate) fn with_body(&self, body: &[u8]) -> Self {
        let mut bytes = self.0[..HEADER].to_vec();
        bytes.extend_from_slice(body);
        let length = u32::try_from(bytes.len()).expect("a small message");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Self(bytes)
    }

    /// The refusal of a call: `remote_error` with a code of `virErrorNumber`.
    pub(crate) fn refusal(&self, code: u32, words: &str) -> Self {
        let mut bytes = self.0[..16].to_vec();
        bytes.extend(REPLY.to_be_bytes());
        bytes.extend(self.serial().to_be_bytes());
        bytes.extend(1_u32.to_be_bytes());
        // VIR_FROM_QEMU.
        for number in [code, 10, 1] {
            bytes.extend(number.to_be_bytes());
        }
        put_text(&mut bytes, words);
        // VIR_ERR_ERROR; no domain, no texts, two numbers, no network.
        for number in [2_u32, 0, 0, 0, 0, 0, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        let length = u32::try_from(bytes.len()).expect("a small message");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        Self(bytes)
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a short text");
    bytes.extend(length.to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One entry of the statistics of all domains.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) domain: String,
    bytes: Vec<u8>,
    /// Where the state and its reason are in `bytes`.
    state: Option<usize>,
    reason: Option<usize>,
}

impl Entry {
    pub(crate) fn set(&mut self, state: u32, reason: u32) {
        for (at, value) in [(self.state, state), (self.reason, reason)] {
            if let Some(at) = at {
                self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
        }
    }
}

/// Takes the statistics of all domains apart.
pub(crate) fn entries(body: &[u8]) -> io::Result<Vec<Entry>> {
    let mut reader = Reader(body);
    let count = reader.number()?;
    (0..count).map(|_| entry(&mut reader)).collect()
}

fn entry(reader: &mut Reader<'_>) -> io::Result<Entry> {
    let whole = reader.0;
    let at = |reader: &Reader<'_>| whole.len() - reader.0.len();
    let domain = reader.text()?;
    reader.skip(16 + 4)?;
    let (mut state, mut reason) = (None, None);
    for _ in 0..reader.number()? {
        let name = reader.text()?;
        let kind = reader.number()?;
        match name.as_str() {
            "state.state" => state = Some(at(reader)),
            "state.reason" => reason = Some(at(reader)),
            _ => {}
        }
        match kind {
            3..=5 => reader.skip(8)?,
            7 => drop(reader.text()?),
            _ => reader.skip(4)?,
        }
    }
    let bytes = whole[..at(reader)].to_vec();
    Ok(Entry {
        domain,
        bytes,
        state,
        reason,
    })
}

/// Puts the statistics together again.
pub(crate) fn joined(entries: &[Entry]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).expect("few domains");
    let mut body = count.to_be_bytes().to_vec();
    for entry in entries {
        body.extend(&entry.bytes);
    }
    body
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        let short = || io::Error::other("a message that ends too soon");
        self.0 = self.0.get(bytes..).ok_or_else(short)?;
        Ok(())
    }

    fn number(&mut self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.number()? as usize;
        let text = self.0.get(..length).map(String::from_utf8_lossy);
        let text = text.ok_or_else(|| io::Error::other("a text that ends too soon"))?;
        let text = text.into_owned();
        self.skip(length.next_multiple_of(4))?;
        Ok(text)
    }
}
