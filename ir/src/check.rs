//! What a candy asserts about a venue.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// One assertion, evaluated by the engine on the venue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Names the check within its candy; stable while its author leaves it alone.
    pub id: String,
    /// The author's sentence.
    pub title: String,
    /// Where the check has a meaning. Host venues evaluate `deploy` and, for what runs, `runtime`.
    pub contexts: Vec<Context>,
    /// How long and how often to try. Absent: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Bounds one attempt, in seconds.
    pub timeout_s: u32,
    /// What is asserted.
    pub assertion: Assertion,
}

/// The situations in which a check has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Context {
    /// While an image is built.
    Build,
    /// After a plan was applied.
    Deploy,
    /// While services run.
    Runtime,
}

/// How long an assertion may take to come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The whole time allowed, in milliseconds.
    pub within_ms: u64,
    /// The pause between attempts, in milliseconds.
    pub interval_ms: u64,
}

/// A typed assertion. Absent fields assert nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assertion {
    /// A path of the venue.
    File {
        /// The path.
        path: Text,
        /// Whether it exists. Absent means it must.
        exists: Option<bool>,
        /// The permission bits.
        mode: Option<u32>,
        /// The owner's name or number, with an optional `:group`.
        owner: Option<String>,
        /// `file`, `directory`, `symlink`, `socket`, `fifo`, `block` or `char`.
        filetype: Option<String>,
        /// Matchers on the content.
        contains: Vec<Matcher>,
        /// The SHA-256 of the content, as hexadecimal digits.
        sha256: Option<String>,
    },
    /// A shell body run as the deploying user, like a `command` step.
    Command {
        /// The body.
        body: String,
        /// Additional environment.
        env: BTreeMap<String, Text>,
        /// The exit status asked for. Absent: 0.
        exit_status: Option<i32>,
        /// Matchers on its standard output.
        stdout: Vec<Matcher>,
        /// Matchers on its standard error.
        stderr: Vec<Matcher>,
    },
    /// A package of the venue's manager.
    Package {
        /// The package's name on this distribution.
        name: String,
        /// Whether it is installed. Absent means it must be.
        installed: Option<bool>,
        /// Matchers on its version.
        version: Vec<Matcher>,
    },
    /// A service of the venue's supervisor.
    Service {
        /// The unit candidates, most likely first: the candy's own unit, then the packaged one.
        units: Vec<String>,
        /// Whether it runs.
        running: Option<bool>,
        /// Whether it starts at boot.
        enabled: Option<bool>,
    },
    /// A TCP or UDP port on which something of the venue listens, or not.
    Port {
        /// The port's number.
        port: u16,
        /// `tcp` or `udp`.
        protocol: Protocol,
        /// Whether something listens. Absent means it must.
        listening: Option<bool>,
        /// The local address it must listen on.
        address: Option<String>,
    },
    /// A process by its name, as `comm` or the first argument's file name has it.
    Process {
        /// The name.
        name: String,
        /// Whether one runs. Absent means it must.
        running: Option<bool>,
    },
    /// An HTTP request from the venue.
    Http {
        /// The URL.
        url: Text,
        /// The method. Absent: `GET`.
        method: Option<String>,
        /// The status asked for. Absent: any below 400.
        status: Option<u16>,
        /// Matchers on the body.
        body: Vec<Matcher>,
        /// Matchers on the headers, one `name: value` a line.
        headers: Vec<Matcher>,
        /// Takes a certificate nobody vouches for.
        allow_insecure: bool,
    },
    /// A name that the venue resolves.
    Dns {
        /// The name.
        name: String,
        /// Whether it resolves. Absent means it must.
        resolvable: Option<bool>,
        /// Addresses that must be among the answers.
        addresses: Vec<String>,
    },
    /// A user account.
    User {
        /// Its name.
        name: Text,
        /// Whether it exists. Absent means it must.
        exists: Option<bool>,
        /// Its number.
        uid: Option<u32>,
        /// Its main group's number.
        gid: Option<u32>,
        /// Groups it must be a member of.
        groups: Vec<String>,
        /// Its home folder.
        home: Option<Text>,
        /// Its login shell.
        shell: Option<String>,
    },
    /// A group.
    Group {
        /// Its name.
        name: String,
        /// Whether it exists. Absent means it must.
        exists: Option<bool>,
        /// Its number.
        gid: Option<u32>,
    },
    /// A kernel parameter, as sysctl(8) names it.
    KernelParam {
        /// The dotted name.
        name: String,
        /// Matchers on its value.
        value: Vec<Matcher>,
    },
    /// A mount point.
    Mount {
        /// Where it is mounted.
        path: Text,
        /// Whether it is. Absent means it must be.
        exists: Option<bool>,
        /// The file system's type.
        filesystem: Option<String>,
        /// What is mounted.
        source: Option<String>,
        /// Options that must be among its own.
        options: Vec<String>,
    },
    /// A TCP address reached from the venue.
    Addr {
        /// `host:port`.
        address: Text,
        /// Whether a connection is accepted. Absent means it must be.
        reachable: Option<bool>,
    },
    /// A network interface.
    Interface {
        /// Its name.
        name: String,
        /// Whether it exists. Absent means it must.
        exists: Option<bool>,
        /// Addresses it must have.
        addresses: Vec<String>,
        /// Its largest packet.
        mtu: Option<u32>,
    },
    /// A value compared with matchers.
    Matching {
        /// The value.
        value: Text,
        /// The matchers.
        matches: Vec<Matcher>,
    },
    /// Something only another venue or a person can judge; reported as skipped with this reason.
    Carried {
        /// The verb as written.
        verb: String,
        /// Why it is not evaluated on a host venue.
        reason: String,
        /// Every field as written.
        fields: serde_json::Value,
    },
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A condition on a string. All matchers of a list must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matcher {
    /// Equal after white space at both ends is dropped.
    Equals(Text),
    /// Contained.
    Contains(Text),
    /// Not contained.
    NotContains(Text),
    /// A regular expression that finds something; the syntax is that of the Rust `regex` crates, checked when compiled.
    Matches(String),
}
