//! The system call filter of a run.
//!
//! The kernel translates a filter each time one is installed, and examines it for every system call number; and one is
//! installed for each run. So the filter is a binary search over the numbers, as short as can be; as a plain list of
//! comparisons, which the filter libraries make, it cost 0.2 ms a run.

use std::{
    collections::{BTreeMap, HashMap},
    thread,
};

use libc::{c_long, sock_filter};

/// What the numbers of the x32 interface, another way to the same calls, begin with.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// Where the kernel puts the number, the architecture and the first argument's lower half (both are little-endian).
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// The calls that are refused: what reaches into other processes or the kernel, changes mounts or namespaces, or goes
/// around this very filter. It is not a list of everything a program may need, because tools vary; the container's own
/// profile stays in force beneath it.
const HARMFUL: [c_long; 48] = [
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    // Their operations are no system calls, and no filter sees them.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Flags of `clone` that make namespaces; the same call makes threads and processes.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Holds the filters of runs with and without the network.
#[derive(Debug)]
pub(crate) struct Filters {
    with_network: Vec<sock_filter>,
    without_network: Vec<sock_filter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    Allow,
    /// Fails with this error; 0 pretends that it was done.
    Answer(i32),
    /// Fails if it would make a namespace.
    UnlessNamespace,
}

impl Filters {
    /// Builds the filters; none for an architecture this module does not know, or a kernel that does not take them.
    /// `groups` tells whether processes may leave their process group.
    pub(crate) fn prepare(groups: bool) -> Option<Self> {
        let architecture = ARCHITECTURE?;
        let filters = Self {
            with_network: assemble(architecture, &verdicts(true, groups)),
            without_network: assemble(architecture, &verdicts(false, groups)),
        };
        let tried = filters.with_network.clone();
        // Tried on a thread that does nothing else and ends.
        thread::spawn(move || crate::spawn::filter_this_thread(&tried)).join().ok()?.ok()?;
        Some(filters)
    }

    pub(crate) fn get(&self, network: bool) -> &[sock_filter] {
        if network { &self.with_network } else { &self.without_network }
    }
}

/// Says what becomes of each call from its number on, until the next number.
fn verdicts(network: bool, groups: bool) -> BTreeMap<u32, Verdict> {
    let mut single = BTreeMap::new();
    let mut rule = |call: c_long, verdict| single.insert(u32::try_from(call).unwrap_or(u32::MAX), verdict);
    for call in HARMFUL {
        rule(call, Verdict::Answer(libc::EPERM));
    }
    #[cfg(target_arch = "x86_64")]
    for call in [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt] {
        rule(call, Verdict::Answer(libc::EPERM));
    }
    // A process that left its session would outlive its run, and so would one that left its group where orphans are
    // not found. That it was done is pretended: programs do it on their way to something else.
    rule(libc::SYS_setsid, Verdict::Answer(0));
    if !groups {
        rule(libc::SYS_setpgid, Verdict::Answer(0));
    }
    rule(libc::SYS_clone, Verdict::UnlessNamespace);
    // Its flags lie in memory, where no filter looks; programs then use `clone`.
    rule(libc::SYS_clone3, Verdict::Answer(libc::ENOSYS));
    if !network {
        rule(libc::SYS_socket, Verdict::Answer(libc::EPERM));
    }
    let mut from = BTreeMap::from([(0, Verdict::Allow)]);
    for (&call, &verdict) in &single {
        from.insert(call, verdict);
        from.entry(call + 1).or_insert(Verdict::Allow);
    }
    #[cfg(target_arch = "x86_64")]
    from.insert(X32, Verdict::Answer(libc::ENOSYS));
    from
}

/// Writes the filter: the architecture's check, a search for the range that the number lies in, and each verdict once.
fn assemble(architecture: u32, verdicts: &BTreeMap<u32, Verdict>) -> Vec<sock_filter> {
    let mut ranges: Vec<(u32, Verdict)> = verdicts.iter().map(|(from, verdict)| (*from, *verdict)).collect();
    ranges.dedup_by_key(|(_, verdict)| *verdict);
    let mut search = Vec::new();
    plant(&ranges, &mut search);

    let mut places = HashMap::new();
    let mut endings = Vec::new();
    for (_, verdict) in &ranges {
        places.entry(*verdict).or_insert_with(|| {
            let place = search.len() + endings.len();
            endings.extend(decide(*verdict));
            place
        });
    }
    let mut program = vec![
        load(ARCH),
        jump(libc::BPF_JEQ, architecture, 1, 0),
        // A program of another architecture numbers its calls otherwise.
        done(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(search.iter().enumerate().map(|(at, Branch { from, below, above })| {
        let skip = |next: &Next| {
            let place = match next {
                Next::Branch(place) => *place,
                Next::Verdict(verdict) => places[verdict],
            };
            u8::try_from(place - at - 1).unwrap_or_else(|_| unreachable!("the filter has under 256 instructions"))
        };
        jump(libc::BPF_JGE, *from, skip(above), skip(below))
    }));
    program.extend(endings);
    program
}

/// One comparison of the search.
struct Branch {
    from: u32,
    below: Next,
    above: Next,
}

/// Where the search goes on.
enum Next {
    Branch(usize),
    Verdict(Verdict),
}

/// Adds the search among these ranges, of which there is at least one.
fn plant(ranges: &[(u32, Verdict)], search: &mut Vec<Branch>) -> Next {
    if let [(_, verdict)] = ranges {
        return Next::Verdict(*verdict);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let at = search.len();
    // Jumps lead forward alone: a branch stands before what it leads to.
    search.push(Branch { from: high[0].0, below: Next::Branch(at), above: Next::Branch(at) });
    let below = plant(low, search);
    let above = plant(high, search);
    search[at] = Branch { from: high[0].0, below, above };
    Next::Branch(at)
}

fn decide(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![done(libc::SECCOMP_RET_ALLOW)],
        Verdict::Answer(error) => vec![done(libc::SECCOMP_RET_ERRNO | error.unsigned_abs())],
        Verdict::UnlessNamespace => vec![
            load(FIRST_ARGUMENT),
            jump(libc::BPF_JSET, NAMESPACES.cast_unsigned(), 0, 1),
            done(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()),
            done(libc::SECCOMP_RET_ALLOW),
        ],
    }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, value: u32, if_so: u8, if_not: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, if_so, if_not, value)
}

fn done(action: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, action)
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_else(|_| unreachable!("operation codes are small")), jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does what the kernel does with a filter.
    fn evaluate(program: &[sock_filter], number: u32, architecture: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let code = u32::from(code);
            if code == libc::BPF_RET {
                return k;
            }
            if code & 7 == libc::BPF_LD {
                value = match k {
                    NUMBER => number,
                    ARCH => architecture,
                    FIRST_ARGUMENT => argument,
                    other => panic!("loads from {other}"),
                };
                continue;
            }
            let holds = match code & 0xf0 {
                libc::BPF_JEQ => value == k,
                libc::BPF_JGE => value >= k,
                libc::BPF_JSET => value & k != 0,
                other => panic!("jumps by {other}"),
            };
            at += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn every_number_gets_its_verdict() {
        let Some(architecture) = ARCHITECTURE else { return };
        let program = assemble(architecture, &verdicts(false, false));
        let with_network = assemble(architecture, &verdicts(true, true));
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        let mut counts = (0, 0);
        for number in 0..700_u32 {
            let call = c_long::from(number);
            let expected = if call == libc::SYS_setsid || call == libc::SYS_setpgid {
                libc::SECCOMP_RET_ERRNO
            } else if call == libc::SYS_clone3 {
                libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
            } else if call == libc::SYS_socket
                || verdicts(true, true).get(&number) == Some(&Verdict::Answer(libc::EPERM))
            {
                refused
            } else {
                libc::SECCOMP_RET_ALLOW
            };
            assert_eq!(evaluate(&program, number, architecture, 0), expected, "call {number}");
            counts = if expected == refused { (counts.0 + 1, counts.1) } else { (counts.0, counts.1 + 1) };
        }
        assert!(counts.0 > HARMFUL.len() && counts.1 > 500, "{counts:?}");
        let call = |number: c_long, argument: i32| {
            evaluate(&with_network, u32::try_from(number).unwrap(), architecture, argument.cast_unsigned())
        };
        assert_eq!(call(libc::SYS_socket, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_setpgid, 0), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_setsid, 0), libc::SECCOMP_RET_ERRNO);
        assert_eq!(call(libc::SYS_ptrace, 0), refused);
        assert_eq!(call(libc::SYS_clone, libc::CLONE_VM | libc::CLONE_THREAD), libc::SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD), refused);
        assert_eq!(evaluate(&with_network, 0, architecture ^ 1, 0), libc::SECCOMP_RET_KILL_PROCESS);
        #[cfg(target_arch = "x86_64")]
        for number in [X32, X32 + 57, X32 + 521, u32::MAX] {
            assert_eq!(
                evaluate(&with_network, number, architecture, 0),
                libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()
            );
        }
    }
}
