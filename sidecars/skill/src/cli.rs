//! The command line, for `charly-skill` and `charly skill serve` alike.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use secrecy::SecretString;
use tokio::{
    net::unix::pipe::Receiver,
    signal::unix::{SignalKind, signal},
};

use crate::{
    audit::Audit,
    server::{Listener, serve},
    service::{ConfigError, Service},
    settings::{Limits, Listen, SandboxMode, Settings},
    spawn::hide_own_memory,
    supervisor::{supervise, take_name},
};

/// The variable that holds the token where `--token-file` names none.
const TOKEN_VARIABLE: &str = crate::request::TOKEN_VARIABLE;

/// How long a health check may take.
const PROBE: Duration = Duration::from_secs(3);

/// Holds the arguments of the skill server.
#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ServeArgs {
    /// Where to listen: an address and port, or `unix:` and a path
    #[arg(long, value_name = "ADDR:PORT|unix:PATH", default_value = "127.0.0.1:8080")]
    pub listen: Listen,

    /// The mode of the socket's file, in octal
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = parse_mode)]
    pub socket_mode: u32,

    /// The folder that holds the skills
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    pub skills: PathBuf,

    /// The folder that holds the manifests, one `<skill>.yml` a skill
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,

    /// Run only skills that have a manifest
    #[arg(long, requires = "manifests")]
    pub require_manifest: bool,

    /// The file that holds the token of callers who may run every skill [default: the variable SKILL_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The file that names several callers, their tokens and their skills
    #[arg(long, value_name = "FILE")]
    pub callers: Option<PathBuf>,

    /// A host name requests may carry, besides the local ones; may be repeated
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,

    /// An origin whose web pages may send requests; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,

    /// What becomes of runs where the kernel has no Landlock or seccomp
    #[arg(long, value_enum, default_value_t)]
    pub sandbox: SandboxMode,

    /// Where each run gets a private folder
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    pub work: PathBuf,

    /// Where the audit log goes [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,

    /// Runs at one time
    #[arg(long, value_name = "COUNT", default_value_t = 16, value_parser = positive)]
    pub runs: usize,

    /// Runs that may wait for their turn
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    pub queue: usize,

    /// Connections at one time
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = positive)]
    pub connections: usize,

    /// Size of a request's body
    #[arg(long, value_name = "KIB", default_value_t = 1024, value_parser = positive)]
    pub body_kib: usize,

    /// Output kept of each stream, where a manifest does not say
    #[arg(long, value_name = "KIB", default_value_t = 1024, value_parser = positive)]
    pub output_kib: usize,

    /// Results of tasks, all together
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = positive)]
    pub results_mib: usize,

    /// How long the result of a task is kept
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub result_age: u64,

    /// The longest time a caller may ask for
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub run_time: u64,

    /// How long a request's bytes may keep the server waiting
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: u64,

    /// How long runs may go on after the server was told to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 25)]
    pub grace: u64,

    /// Validate the configuration and exit
    #[arg(long, conflicts_with = "probe")]
    pub check: bool,

    /// Ask the running server whether it is well, and exit
    #[arg(long)]
    pub probe: bool,

    /// Serve in this very process; its supervisor is its parent, and holds the other end of its standard input
    #[arg(long, hide = true)]
    pub supervised: bool,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("expected an octal mode such as 660".into()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".into()),
        Ok(count) => Ok(count),
    }
}

/// Holds what the program itself was started with; the library reads none of it by itself.
#[derive(Debug)]
pub struct Process {
    /// The arguments after the program's name.
    pub arguments: Vec<OsString>,
    /// The environment, from which manifests grant credentials.
    pub environment: Vec<(OsString, OsString)>,
}

/// Says why the server did not start, or a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error("the configuration is not valid")]
    Config(#[from] ConfigError),
    /// The token's file cannot be read.
    #[error("cannot read the token in `{path}`", path = .0.display())]
    Token(PathBuf, #[source] io::Error),
    /// The audit log cannot be written.
    #[error("cannot open the audit log")]
    Audit(#[source] io::Error),
    /// Nothing can listen there.
    #[error("cannot listen on {0}")]
    Listen(Listen, #[source] io::Error),
    /// The server does not answer.
    #[error("the server on {0} is not well")]
    Probe(Listen, #[source] io::Error),
    /// The system refused something else.
    #[error("cannot run the server")]
    System(#[from] io::Error),
}

/// Does what the arguments say: serves until a signal, checks the configuration, or probes a running server. What a
/// check finds is written to `out`.
pub fn run(args: ServeArgs, process: Process, out: &mut dyn Write) -> Result<ExitCode, CliError> {
    if args.probe {
        probe(&args.listen).map_err(|error| CliError::Probe(args.listen, error))?;
        return Ok(ExitCode::SUCCESS);
    }
    hide_own_memory()?;
    if !args.check && !args.supervised {
        let mut arguments = process.arguments;
        arguments.push("--supervised".into());
        return Ok(supervise(&arguments)?);
    }
    if args.supervised {
        take_name();
    }
    let (check, listen, socket_mode) = (args.check, args.listen.clone(), args.socket_mode);
    let log: Box<dyn Write + Send> = match &args.audit {
        Some(path) if !check => Box::new(open_log(path).map_err(CliError::Audit)?),
        _ => Box::new(io::stdout()),
    };
    let settings = args.resolve(process.environment)?;
    let (audit, writer) = Audit::start(log).map_err(CliError::Audit)?;
    let service = Service::load(settings, audit)?;
    if check {
        for warning in service.warnings() {
            writeln!(out, "warning: {warning}")?;
        }
        writeln!(out, "the configuration is valid: {}", service.describe())?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let tie = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let listener = Listener::open(&listen, socket_mode).await;
        let listener = listener.map_err(|error| CliError::Listen(listen, error))?;
        for warning in service.warnings() {
            tracing::warn!("{warning}");
        }
        tracing::info!("listening on {}: {}", listener.place()?, service.describe());
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let lost = async move {
            // Nothing is ever written to it; it ends when the supervisor does.
            let _ = tie.readable().await;
        };
        serve(Arc::new(service), listener, stop, lost).await;
        Ok::<_, CliError>(())
    })?;
    // Whatever still refers to the log goes away with the runtime; then its last lines are written.
    drop(runtime);
    let _ = writer.join();
    Ok(ExitCode::SUCCESS)
}

/// Starting processes is most of the work and the kernel does it, so a few threads serve any machine.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

impl ServeArgs {
    fn resolve(self, environment: Vec<(OsString, OsString)>) -> Result<Settings, CliError> {
        let mut environment: BTreeMap<String, SecretString> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, SecretString::from(value.into_string().ok()?))))
            .collect();
        let inherited = environment.remove(TOKEN_VARIABLE);
        let token = match self.token_file {
            Some(path) => {
                Some(fs::read_to_string(&path).map(SecretString::from).map_err(|error| CliError::Token(path, error))?)
            }
            None => inherited,
        };
        Ok(Settings {
            listen: self.listen,
            socket_mode: self.socket_mode,
            skills: self.skills,
            manifests: self.manifests,
            callers: self.callers,
            token,
            hosts: self.allow_host,
            origins: self.allow_origin,
            require_manifest: self.require_manifest,
            sandbox: self.sandbox,
            work: self.work,
            supervised: self.supervised,
            limits: Limits {
                runs: self.runs,
                queue: self.queue,
                connections: self.connections,
                body: self.body_kib.saturating_mul(1 << 10),
                output: self.output_kib.saturating_mul(1 << 10),
                results: self.results_mib.saturating_mul(1 << 20),
                result_age: Duration::from_secs(self.result_age),
                run_time: Duration::from_secs(self.run_time),
                patience: Duration::from_secs(self.patience),
                grace: Duration::from_secs(self.grace),
            },
            environment,
        })
    }
}

fn open_log(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Asks `GET /healthz` over the place the server listens at; a server on every interface is asked on the local one.
fn probe(listen: &Listen) -> io::Result<()> {
    let mut answer = Vec::new();
    match listen {
        Listen::Tcp(address) => {
            let mut address: SocketAddr = *address;
            if address.ip().is_unspecified() {
                address.set_ip(if address.is_ipv4() {
                    [127, 0, 0, 1].into()
                } else {
                    std::net::Ipv6Addr::LOCALHOST.into()
                });
            }
            let mut stream = std::net::TcpStream::connect_timeout(&address, PROBE)?;
            stream.set_read_timeout(Some(PROBE))?;
            ask(&mut stream, &address.to_string(), &mut answer)?;
        }
        Listen::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PROBE))?;
            ask(&mut stream, "localhost", &mut answer)?;
        }
    }
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other("it does not answer 200 to /healthz"))
    }
}

fn ask(stream: &mut (impl Read + Write), host: &str, answer: &mut Vec<u8>) -> io::Result<()> {
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.take(4096).read_to_end(answer)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn parse(arguments: &[&str]) -> ServeArgs {
        Program::parse_from([&["charly-skill"], arguments].concat()).serve
    }

    #[test]
    fn the_defaults_of_the_arguments_are_those_of_the_library() {
        let settings = parse(&[]).resolve(vec![]).unwrap();
        assert_eq!(format!("{:?}", settings.limits), format!("{:?}", Limits::default()));
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((settings.skills.to_str(), settings.socket_mode), (Some("/usr/local/bin"), 0o660));
    }

    #[test]
    fn the_token_leaves_the_environment() {
        let environment = vec![("SKILL_TOKEN".into(), "t".into()), ("GH_TOKEN".into(), "g".into())];
        let settings = parse(&[]).resolve(environment).unwrap();
        assert!(settings.token.is_some());
        assert_eq!(settings.environment.keys().collect::<Vec<_>>(), ["GH_TOKEN"]);
        assert!(!format!("{settings:?}").contains("\"g\""), "secrets are not shown");
    }
}
