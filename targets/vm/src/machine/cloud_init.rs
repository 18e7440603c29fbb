//! What a first boot is told: three documents for cloud-init, and one digest over them.
//!
//! They are written as JSON, which is YAML too.

use charly_ir::Digest;
use serde_json::{Map, Value as Json, json};

use super::spec::{FirstBoot, KeySource, Share, tag};
use super::{KeyPair, State, distro, identity};

/// Makes a clone's machine-id its own before anything has been called by the original's, and starts over.
const RENEW: &str = r#"[ "$(cat /etc/machine-id)" = "$0" ] && exit 0
rm -f /var/lib/dbus/machine-id
printf '%s\n' "$0" >/etc/machine-id && sync && systemctl --force --force reboot && sleep 60"#;

/// The documents of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Who the machine is.
    pub meta_data: String,
    /// What its first boot does.
    pub user_data: String,
    /// How it is connected.
    pub network_config: String,
}

impl Rendered {
    /// Renders a machine's documents.
    pub fn new(state: &State, host_key: &KeyPair, renew_machine_id: bool) -> Self {
        let boot = &state.desired.cloud_init;
        let hostname = boot.hostname.as_deref().unwrap_or(state.name.as_str());
        let instance = match state.reseeded {
            0 => state.instance_id.to_string(),
            times => format!("{}.{times}", state.instance_id),
        };
        let meta_data = json!({ "instance-id": instance, "local-hostname": hostname });
        let network = boot.network.clone().unwrap_or_else(|| {
            json!({ "version": 2, "ethernets": { "first": { "match": { "name": "e*" }, "dhcp4": true, "dhcp6": true } } })
        });
        let mut user_data = own(state, hostname, host_key, renew_machine_id);
        declared(&mut user_data, boot, &state.desired.shares, distro::name(&state.desired.source));
        merge(&mut user_data, &boot.extra);
        Self {
            meta_data: text(&meta_data),
            user_data: format!("#cloud-config\n{}", text(&Json::Object(user_data))),
            network_config: text(&network),
        }
    }

    /// Returns the documents with the names that cloud-init looks for.
    pub fn files(&self) -> [(&'static str, &str); 3] {
        [("meta-data", &self.meta_data), ("user-data", &self.user_data), ("network-config", &self.network_config)]
    }

    /// Returns the digest over all of them.
    pub fn digest(&self) -> Digest {
        let framed = self.files().map(|(name, text)| format!("{name} {}\n{text}", text.len())).concat();
        Digest::of(framed.as_bytes())
    }
}

/// What charly itself wants: a name, a user to come in as, a host key that is known before the first connection.
fn own(state: &State, hostname: &str, host_key: &KeyPair, renew_machine_id: bool) -> Map<String, Json> {
    let mut data = Map::new();
    let (name, domain) = hostname.split_once('.').unwrap_or((hostname, ""));
    data.insert("hostname".into(), name.into());
    if !domain.is_empty() {
        data.insert("fqdn".into(), hostname.into());
    }
    data.insert("manage_etc_hosts".into(), "localhost".into());
    data.insert("ssh_deletekeys".into(), true.into());
    data.insert("ssh_keys".into(), json!({ "ed25519_private": host_key.private, "ed25519_public": host_key.public }));
    let user = state.ssh_user.as_str();
    if user == "root" {
        data.insert("disable_root".into(), false.into());
    } else {
        data.insert("user".into(), json!({ "name": user, "lock_passwd": true, "sudo": "ALL=(ALL) NOPASSWD:ALL" }));
    }
    let key = state.key_injection_resolved.as_ref().filter(|key| key.cloud_init);
    let key = key.filter(|_| state.desired.ssh.key != KeySource::None).and_then(|key| key.public.as_ref());
    if let Some(key) = key {
        data.insert("ssh_authorized_keys".into(), json!([key]));
    }
    if renew_machine_id {
        let machine_id = identity::machine_id(state.instance_id);
        data.insert("bootcmd".into(), json!([["sh", "-c", RENEW, machine_id]]));
    }
    data
}

/// What the declaration says in words of charly's own.
fn declared(data: &mut Map<String, Json>, boot: &FirstBoot, shares: &[Share], distro: Option<&str>) {
    let mut more = Map::new();
    let texts = [("timezone", &boot.timezone), ("locale", &boot.locale)];
    for (key, value) in texts.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        more.insert(key.into(), value.as_str().into());
    }
    if !boot.users.is_empty() {
        // Without `default` the user that charly comes in as would not be made.
        let users = std::iter::once(&Json::from("default")).chain(&boot.users).cloned().collect();
        more.insert("users".into(), Json::Array(users));
    }
    if !boot.packages.is_empty() {
        more.insert("package_update".into(), true.into());
        more.insert("packages".into(), json!(boot.packages));
    }
    let lists = [("runcmd", &boot.runcmd), ("bootcmd", &boot.bootcmd), ("write_files", &boot.write_files)];
    if !shares.is_empty() {
        // Without the share the machine boots as well.
        let mount = |(index, share): (usize, &Share)| {
            let options = if share.read_only { "ro,nofail" } else { "rw,nofail" };
            json!([tag(index), share.target, "virtiofs", options, "0", "0"])
        };
        more.insert("mounts".into(), shares.iter().enumerate().map(mount).collect());
    }
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        more.insert(key.into(), Json::Array(list.clone()));
    }
    if let Some(mirror) = &boot.mirror
        && matches!(distro, Some("debian" | "ubuntu"))
    {
        let places = json!([{ "arches": ["default"], "uri": mirror }]);
        more.insert("apt".into(), json!({ "primary": places }));
    }
    merge(data, &more);
}

/// Merges mappings: lists grow, mappings merge, and anything else is what was said last.
fn merge(into: &mut Map<String, Json>, more: &Map<String, Json>) {
    for (key, value) in more {
        match (into.get_mut(key), value) {
            (Some(Json::Object(into)), Json::Object(more)) => merge(into, more),
            (Some(Json::Array(into)), Json::Array(more)) => into.extend(more.iter().cloned()),
            (_, value) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn text(document: &Json) -> String {
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::spec::{Source, Spec};
    use super::super::state::KeyInjection;
    use super::*;

    fn state() -> State {
        let source = Source::CloudImage { url: "https://x/debian-13.qcow2".into(), checksum: None };
        let mut state = State::new(Path::new("/s"), "demo".parse().unwrap(), Spec::new(source), 2222);
        state.instance_id = uuid::Uuid::from_bytes([7; 16]);
        state.key_injection_resolved = Some(KeyInjection {
            identity: None,
            public: Some("ssh-ed25519 AAAA me".into()),
            smbios: false,
            cloud_init: true,
        });
        state
    }

    fn host_key() -> KeyPair {
        KeyPair { private: "PRIVATE\n".into(), public: "ssh-ed25519 BBBB".into() }
    }

    fn user_data(state: &State, renew: bool) -> Json {
        let rendered = Rendered::new(state, &host_key(), renew);
        serde_json::from_str(rendered.user_data.strip_prefix("#cloud-config\n").unwrap()).unwrap()
    }

    #[test]
    fn documents_are_exactly_these() {
        let mut state = state();
        let rendered = Rendered::new(&state, &host_key(), false);
        assert_eq!(
            rendered.meta_data,
            "{\n  \"instance-id\": \"07070707-0707-0707-0707-070707070707\",\n  \"local-hostname\": \"demo\"\n}\n"
        );
        assert_eq!(
            serde_json::from_str::<Json>(&rendered.network_config).unwrap(),
            json!({ "version": 2, "ethernets": { "first": { "match": { "name": "e*" }, "dhcp4": true, "dhcp6": true } } })
        );
        let want = json!({
            "hostname": "demo",
            "manage_etc_hosts": "localhost",
            "ssh_deletekeys": true,
            "ssh_keys": { "ed25519_private": "PRIVATE\n", "ed25519_public": "ssh-ed25519 BBBB" },
            "user": { "name": "debian", "lock_passwd": true, "sudo": "ALL=(ALL) NOPASSWD:ALL" },
            "ssh_authorized_keys": ["ssh-ed25519 AAAA me"],
        });
        assert_eq!(user_data(&state, false), want);
        state.ssh_user = "root".into();
        state.desired.ssh.key = KeySource::None;
        let data = user_data(&state, false);
        assert_eq!((&data["disable_root"], &data["user"]), (&json!(false), &Json::Null));
        assert_eq!(data["ssh_authorized_keys"], Json::Null);
        state.reseeded = 2;
        let meta_data = Rendered::new(&state, &host_key(), false).meta_data;
        assert!(meta_data.contains("\"07070707-0707-0707-0707-070707070707.2\""), "{meta_data}");
    }

    #[test]
    fn what_is_declared_is_merged_and_extra_over_it() {
        let mut state = state();
        state.desired.cloud_init = FirstBoot {
            hostname: Some("web.example.org".into()),
            timezone: Some("Europe/Berlin".into()),
            users: vec![json!({ "name": "eve" })],
            packages: vec!["vim".into()],
            runcmd: vec![json!("true")],
            bootcmd: vec![json!(["date"])],
            mirror: Some("http://mirror/debian".into()),
            extra: json!({
                "timezone": "UTC",
                "packages": ["tmux"],
                "apt": { "proxy": "http://proxy" },
                "ntp": { "enabled": true },
            })
            .as_object()
            .unwrap()
            .clone(),
            ..FirstBoot::default()
        };
        let share =
            |source: &str, target: &str, read_only| Share { source: source.into(), target: target.into(), read_only };
        state.desired.shares = vec![share("/src", "/src", true), share("/home/me/out", "/out", false)];
        let data = user_data(&state, true);
        let renew = &data["bootcmd"][0];
        assert_eq!((&renew[0], &renew[3]), (&json!("sh"), &json!("07".repeat(16))));
        for (key, want) in [
            ("hostname", json!("web")),
            ("fqdn", json!("web.example.org")),
            ("timezone", json!("UTC")),
            ("users", json!(["default", { "name": "eve" }])),
            ("packages", json!(["vim", "tmux"])),
            ("package_update", json!(true)),
            ("runcmd", json!(["true"])),
            ("ntp", json!({ "enabled": true })),
            (
                "mounts",
                json!([
                    ["share0", "/src", "virtiofs", "ro,nofail", "0", "0"],
                    ["share1", "/out", "virtiofs", "rw,nofail", "0", "0"],
                ]),
            ),
            (
                "apt",
                json!({ "primary": [{ "arches": ["default"], "uri": "http://mirror/debian" }], "proxy": "http://proxy" }),
            ),
        ] {
            assert_eq!(data[key], want, "{key}");
        }
        assert_eq!(data["bootcmd"][1], json!(["date"]));
    }

    #[test]
    fn the_digest_covers_all_three() {
        let base = Rendered { meta_data: "a".into(), user_data: "b".into(), network_config: "c".into() };
        let changed = [
            Rendered { meta_data: "x".into(), ..base.clone() },
            Rendered { user_data: "x".into(), ..base.clone() },
            Rendered { network_config: "x".into(), ..base.clone() },
            Rendered { meta_data: "ab".into(), user_data: String::new(), ..base.clone() },
        ];
        for other in changed {
            assert_ne!(other.digest(), base.digest());
        }
        assert_eq!(base.clone().digest(), base.digest());
    }
}
