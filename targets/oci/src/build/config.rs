//! What an image says about how it is run.

use std::collections::{BTreeMap, HashMap};

use charly_ir::STANDARD_PATH;
use oci_spec::image::{
    Arch, Config, ConfigBuilder, History, HistoryBuilder, ImageConfiguration, ImageConfigurationBuilder, Os as OciOs,
    RootFsBuilder,
};

use super::BuildError;
use crate::layer::Layer;

/// What a box's image says beyond its base.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Variables of every process.
    pub env: BTreeMap<String, String>,
    /// Folders that are appended to PATH.
    pub path: Vec<String>,
    /// The user its processes run as; nothing where that is root, or what the base says.
    pub user: Option<String>,
    /// The folder they start in.
    pub folder: Option<String>,
    /// The entry point; empty where the base's stands.
    pub entrypoint: Vec<String>,
    /// The command; empty where the base's stands, unless the entry point is another.
    pub command: Vec<String>,
    /// Ports, such as `80/tcp`.
    pub ports: Vec<String>,
    /// Folders that outlive a container.
    pub volumes: Vec<String>,
    /// The signal that ends it.
    pub stop_signal: Option<String>,
    /// Labels, all of them.
    pub labels: BTreeMap<String, String>,
}

/// What is said of each layer: who made it, and when, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// By which candy.
    pub by: String,
    /// When.
    pub at: u64,
}

/// Returns the configuration of an image: its base's, and over it what is wanted.
pub(super) fn configuration(
    base: Option<&ImageConfiguration>,
    architecture: &str,
    wanted: &Wanted,
    layers: &[Layer],
    made: &[Made],
    created: u64,
) -> Result<ImageConfiguration, BuildError> {
    let mut history = history(base, layers.len().saturating_sub(made.len()));
    for Made { by, at } in made {
        let entry = HistoryBuilder::default().created(time(*at)).created_by(format!("charly: {by}"));
        history.push(entry.build().map_err(BuildError::Configuration)?);
    }
    let digests: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let root = RootFsBuilder::default().typ("layers").diff_ids(digests).build().map_err(BuildError::Configuration)?;
    let before = base.and_then(|base| base.config().clone());
    let mut builder = ImageConfigurationBuilder::default()
        .created(time(created))
        .os(OciOs::Linux)
        .config(run_time(before.as_ref(), wanted)?)
        .rootfs(root)
        .history(history);
    builder = match base {
        Some(base) => {
            let builder = builder.architecture(base.architecture().clone());
            match base.variant() {
                Some(variant) => builder.variant(variant.clone()),
                None => builder,
            }
        }
        None => builder.architecture(Arch::from(architecture)),
    };
    builder.build().map_err(BuildError::Configuration)
}

/// Returns the configuration of an image whose layers above the lowest so many became one.
pub fn merged(config: &ImageConfiguration, keep: usize) -> Result<ImageConfiguration, BuildError> {
    let layers = config.rootfs().diff_ids().len();
    let mut history = history(Some(config), layers);
    let upper = of_layers(&history).nth(keep).map_or(history.len(), |(at, _)| at);
    history.truncate(upper);
    let mut one = HistoryBuilder::default().created_by(format!("charly: {} layers", layers - keep.min(layers)));
    if let Some(created) = config.created() {
        one = one.created(created.clone());
    }
    history.push(one.build().map_err(BuildError::Configuration)?);
    let mut config = config.clone();
    config.set_history(Some(history));
    Ok(config)
}

/// Returns what an image says of its layers. It may say nothing, or of more or fewer than there are, which those who build upon it
/// do not take: then it says as much as there are layers.
fn history(config: Option<&ImageConfiguration>, layers: usize) -> Vec<History> {
    let mut history = config.and_then(|config| config.history().clone()).unwrap_or_default();
    let more = of_layers(&history).nth(layers).map(|(at, _)| at);
    history.truncate(more.unwrap_or(history.len()));
    for _ in of_layers(&history).count()..layers {
        let mut unknown = History::default();
        unknown.set_created_by(Some("base".to_owned()));
        history.push(unknown);
    }
    history
}

/// Returns the words about layers of a history, and where they stand; others are about steps that made none.
fn of_layers(history: &[History]) -> impl Iterator<Item = (usize, &History)> {
    history.iter().enumerate().filter(|(_, step)| !step.empty_layer().unwrap_or_default())
}

/// Returns what an image says about how it is run.
pub(super) fn run_time(before: Option<&Config>, wanted: &Wanted) -> Result<Config, BuildError> {
    let mut env: Vec<(String, String)> = Vec::new();
    for line in before.and_then(|before| before.env().clone()).unwrap_or_default() {
        if let Some((name, value)) = line.split_once('=') {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    let mut set = |name: &str, value: String| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => *known = value,
        None => env.push((name.to_owned(), value)),
    };
    for (name, value) in &wanted.env {
        set(name, value.clone());
    }
    let at = env.iter().position(|(name, _)| name == "PATH").unwrap_or_else(|| {
        env.insert(0, ("PATH".to_owned(), STANDARD_PATH.to_owned()));
        0
    });
    for folder in &wanted.path {
        let path = &mut env[at].1;
        if !path.split(':').any(|known| known == folder) {
            path.push(':');
            path.push_str(folder);
        }
    }
    let env: Vec<_> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut builder =
        ConfigBuilder::default().env(env).labels(wanted.labels.clone().into_iter().collect::<HashMap<_, _>>());
    let text = |wanted: &Option<String>, known: Option<String>| wanted.clone().or(known);
    if let Some(user) = text(&wanted.user, before.and_then(|before| before.user().clone())) {
        builder = builder.user(user);
    }
    if let Some(folder) = text(&wanted.folder, before.and_then(|before| before.working_dir().clone())) {
        builder = builder.working_dir(folder);
    }
    if let Some(signal) = text(&wanted.stop_signal, before.and_then(|before| before.stop_signal().clone())) {
        builder = builder.stop_signal(signal);
    }
    let (entrypoint, command) =
        before.map(|before| (before.entrypoint().clone(), before.cmd().clone())).unwrap_or_default();
    let (entrypoint, command) = match (wanted.entrypoint.is_empty(), wanted.command.is_empty()) {
        (true, true) => (entrypoint, command),
        (true, false) => (entrypoint, Some(wanted.command.clone())),
        // Another program would not know what to do with the base's words.
        (false, _) => (Some(wanted.entrypoint.clone()), Some(wanted.command.clone())),
    };
    if let Some(entrypoint) = entrypoint.filter(|words| !words.is_empty()) {
        builder = builder.entrypoint(entrypoint);
    }
    if let Some(command) = command.filter(|words| !words.is_empty()) {
        builder = builder.cmd(command);
    }
    let union = |known: Option<Vec<String>>, wanted: &[String]| {
        let mut all = known.unwrap_or_default();
        all.extend_from_slice(wanted);
        all.sort();
        all.dedup();
        all
    };
    let ports = union(before.and_then(|before| before.exposed_ports().clone()), &wanted.ports);
    if !ports.is_empty() {
        builder = builder.exposed_ports(ports);
    }
    let volumes = union(before.and_then(|before| before.volumes().clone()), &wanted.volumes);
    if !volumes.is_empty() {
        builder = builder.volumes(volumes);
    }
    builder.build().map_err(BuildError::Configuration)
}

/// Writes seconds since 1970 as RFC 3339 does, in UTC.
fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // The civil calendar in 400-year eras that begin in March, after H. Hinnant's description.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (date, month, year) =
        (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 }, year + era * 400);
    let year = year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (seconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_781_429_400, "2026-06-14T09:30:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(seconds), want);
        }
    }

    #[test]
    fn every_layer_has_its_word() {
        let step = |by: &str, is_empty| HistoryBuilder::default().created_by(by).empty_layer(is_empty).build().unwrap();
        let image = |steps: &[(&str, bool)], layers: usize| {
            let mut config = ImageConfiguration::default();
            config.rootfs_mut().set_diff_ids(vec!["sha256:x".to_owned(); layers]);
            config.set_history(Some(steps.iter().map(|(by, is_empty)| step(by, *is_empty)).collect()));
            config
        };
        let words = |history: Vec<History>| -> Vec<String> {
            history.iter().map(|step| step.created_by().clone().unwrap_or_default()).collect()
        };
        let full = [("a", false), ("env", true), ("b", false), ("cmd", true)];
        for (steps, layers, want) in [
            (&full[..], 2, &["a", "env", "b", "cmd"][..]),
            (&[], 2, &["base", "base"]),
            (&full, 3, &["a", "env", "b", "cmd", "base"]),
            (&full, 1, &["a", "env"]),
        ] {
            assert_eq!(words(history(Some(&image(steps, layers)), layers)), want, "{steps:?} {layers}");
        }
        for (keep, want) in [(0, &["charly: 2 layers"][..]), (1, &["a", "env", "charly: 1 layers"])] {
            let merged = merged(&image(&full, 2), keep).unwrap();
            assert_eq!(words(merged.history().clone().unwrap()), want, "{keep}");
        }
    }

    #[test]
    fn what_is_wanted_stands_over_the_base() {
        let before = ConfigBuilder::default()
            .env(vec!["PATH=/bin".to_owned(), "A=1".to_owned()])
            .entrypoint(vec!["/init".to_owned()])
            .cmd(vec!["serve".to_owned()])
            .exposed_ports(vec!["80/tcp".to_owned()])
            .build()
            .unwrap();
        let wanted = Wanted {
            env: BTreeMap::from([("A".into(), "2".into()), ("B".into(), "3".into())]),
            path: vec!["/opt/bin".into(), "/bin".into()],
            command: vec!["other".into()],
            ports: vec!["443/tcp".into()],
            ..Wanted::default()
        };
        let config = run_time(Some(&before), &wanted).unwrap();
        assert_eq!(config.env().as_ref().unwrap(), &["PATH=/bin:/opt/bin", "A=2", "B=3"]);
        assert_eq!(config.entrypoint().as_ref().unwrap(), &["/init"]);
        assert_eq!(config.cmd().as_ref().unwrap(), &["other"]);
        assert_eq!(config.exposed_ports().as_ref().unwrap(), &["443/tcp", "80/tcp"]);
        let wanted = Wanted { entrypoint: vec!["/mine".into()], ..Wanted::default() };
        assert_eq!(run_time(Some(&before), &wanted).unwrap().cmd(), &None);
    }
}
