//! What ships beside the server: the sidecar template, the example images' manifests, the kustomize component and the
//! Helm chart. Rendered output is read into typed Kubernetes structures, and may hold nothing that they do not know.

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Container, Pod, PodSpec, Volume},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::support::{Server, print};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// Renders documents with a program; none where it is not installed.
fn render(program: &mut Command) -> Option<Vec<Value>> {
    let Ok(output) = program.output() else {
        print(&format!("not tested with {program:?}: it is not installed"));
        return None;
    };
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let documents = text.split("\n---").filter(|document| document.lines().any(|line| line.contains(": ")));
    Some(documents.map(yaml).collect())
}

/// Returns what renders the chart: helm, or its stand-in where Go and the functions of helm's templates are there.
fn helm() -> Command {
    let mut helm = Command::new("helm");
    let libraries = std::env::var_os("GOPATH").unwrap_or_else(|| "/usr/share/gocode".into());
    let functions = Path::new(&libraries).join("src/github.com/Masterminds/sprig");
    if Command::new("helm").arg("version").output().is_err() && functions.exists() {
        helm = Command::new("go");
        helm.env("GO111MODULE", "off").env("GOPATH", libraries).arg("run").arg(shipped("tests/chart/main.go"));
    }
    helm.args(["template", "mine"]).arg(shipped("chart"));
    helm
}

/// Reads a document into a typed structure; a field that the structure does not know would be lost, and is an error.
fn typed<T: DeserializeOwned + Serialize + Debug>(document: &Value) -> T {
    let typed: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{error}: {document:#}"));
    let again = serde_json::to_value(&typed).unwrap();
    assert!(without_empty(&again) == without_empty(document), "a field is lost:\n{document:#}\n{again:#}");
    typed
}

/// Leaves out what is null or empty, which the structures may add or leave out.
fn without_empty(value: &Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), without_empty(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_empty).collect()),
        other => other.clone(),
    }
}

fn find<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// Checks what every way of deploying has to get right.
fn check_pod(pod: &PodSpec) {
    let [skill] = pod.init_containers.as_deref().unwrap() else { panic!("one sidecar") };
    assert_eq!(skill.restart_policy.as_deref(), Some("Always"), "a native sidecar");
    check_probes(skill);
    let security = skill.security_context.as_ref().unwrap();
    assert_eq!(security.run_as_non_root, Some(true));
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
    assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    let mounted = |path: &str| {
        let mounts = skill.volume_mounts.as_deref().unwrap();
        let name = &mounts.iter().find(|mount| mount.mount_path == path).unwrap().name;
        pod.volumes.as_deref().unwrap().iter().find(|volume| volume.name == *name).unwrap()
    };
    let secret = |volume: &Volume| volume.secret.clone().unwrap();
    let token = secret(mounted("/run/secrets/charly-skill"));
    assert_eq!(token.secret_name.as_deref(), Some("skill-token"));
    assert_eq!(token.default_mode, Some(0o444), "the server is not root");
    assert!(mounted("/tmp").empty_dir.is_some(), "the root is read-only");
    assert!(mounted("/etc/charly-skill/manifests").config_map.is_some());
    check_arguments(skill.args.as_deref().unwrap());
    let variables = skill.env.as_deref().unwrap_or_default();
    assert!(variables.iter().all(|variable| variable.value.is_none()), "credentials come from Secrets");
    for container in &pod.containers {
        let variables = container.env.as_deref().unwrap_or_default();
        assert!(variables.iter().all(|variable| variable.name == "SKILL_TOKEN"), "the agent holds no credential");
    }
}

/// The kubelet probes from outside the pod, where a server on its loopback address is not reached. The probes have to
/// ask where the server listens, wherever that is.
fn check_probes(skill: &Container) {
    let listen = |arguments: &[String]| arguments.iter().find(|argument| argument.starts_with("--listen=")).cloned();
    let place = listen(skill.args.as_deref().unwrap_or_default());
    for probe in [&skill.startup_probe, &skill.liveness_probe] {
        let probe = probe.as_ref().unwrap();
        assert!(probe.http_get.is_none() && probe.tcp_socket.is_none());
        let command = probe.exec.as_ref().unwrap().command.as_deref().unwrap();
        assert_eq!(command[..2], ["/usr/bin/charly-skill", "--probe"]);
        assert_eq!(listen(command), place);
    }
}

/// Gives the arguments to the program itself, with the paths of this machine.
fn check_arguments(arguments: &[String]) {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("token"), "0123456789abcdef\n").unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    fs::create_dir(root.path().join("manifests")).unwrap();
    let arguments = arguments.iter().map(|argument| {
        argument
            .replace("/etc/charly-skill/manifests", &path("manifests"))
            .replace("/run/secrets/charly-skill/token", &path("token"))
    });
    let output = Command::new(env!("CARGO_BIN_EXE_charly-skill"))
        .args(arguments)
        .args(["--check", "--skills", root.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_kustomize_component_makes_a_sidecar() {
    let example = shipped("kustomize/example");
    if let Some(documents) = render(Command::new("kubectl").arg("kustomize").arg(&example)) {
        let deployment: Deployment = typed(find(&documents, "Deployment"));
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        check_pod(&pod);
        assert_eq!(pod.init_containers.unwrap()[0].image.as_deref(), Some("registry.example/skill-gh:1"));
        let manifests: ConfigMap = typed(find(&documents, "ConfigMap"));
        assert!(manifests.data.unwrap()["gh.yml"].contains("GH_TOKEN"));
    }
    // The patch is checked as it is too; so it is where there is no kubectl.
    let patch = yaml(&fs::read_to_string(shipped("kustomize/component/sidecar.yaml")).unwrap());
    let pod: PodSpec = typed(&serde_json::json!({
        "containers": [],
        "initContainers": patch["spec"]["template"]["spec"]["initContainers"],
        "volumes": patch["spec"]["template"]["spec"]["volumes"],
    }));
    check_pod(&pod);
    assert_eq!(
        fs::read_to_string(example.join("gh.yml")).unwrap(),
        fs::read_to_string(shipped("recipe/gh/gh.yml")).unwrap(),
        "kustomize reads no file outside its folder, so this is a copy"
    );
}

#[test]
fn the_chart_makes_a_sidecar() {
    let values = tempfile::NamedTempFile::new().unwrap();
    let text = "agent: {image: 'registry.example/agent:1'}\ntoken: {secret: skill-token}\ngrace: 7\nargs: [--runs=4]\n\
                listen: '127.0.0.1:9090'\n\
                credentials: [{name: GH_TOKEN, secret: gh, key: token}]\nmanifests: {gh: \"env: {grant: [GH_TOKEN]}\\n\"}\n";
    fs::write(values.path(), text).unwrap();
    if let Some(documents) = render(helm().arg("--values").arg(values.path())) {
        let deployment: Deployment = typed(find(&documents, "Deployment"));
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.termination_grace_period_seconds, Some(12));
        check_pod(&pod);
        let skill = &pod.init_containers.unwrap()[0];
        assert!(skill.args.as_ref().unwrap().contains(&"--runs=4".to_owned()));
        assert!(skill.args.as_ref().unwrap().contains(&"--listen=127.0.0.1:9090".to_owned()));
        assert_eq!(skill.liveness_probe.as_ref().unwrap().period_seconds, Some(20));
        assert_eq!(skill.env.as_ref().unwrap()[0].name, "GH_TOKEN");
        let manifests: ConfigMap = typed(find(&documents, "ConfigMap"));
        assert_eq!(manifests.data.unwrap()["gh.yml"], "env: {grant: [GH_TOKEN]}\n");
        let probe: Pod = typed(find(&documents, "Pod"));
        let spec = probe.spec.unwrap();
        check_pod(&spec);
        assert_eq!(spec.containers[0].args.as_deref().unwrap(), ["--probe", "--listen=127.0.0.1:9090"]);
        // What has to be set is asked for.
        assert!(!helm().output().unwrap().status.success());
        // The server is moved by a value, so that the probes follow it.
        fs::write(values.path(), text.replace("--runs=4", "--listen=127.0.0.1:1")).unwrap();
        let moved = helm().arg("--values").arg(values.path()).output().unwrap();
        assert!(String::from_utf8_lossy(&moved.stderr).contains("set `listen` instead"), "{moved:?}");
    }
    // The structures that the values hand through are checked as they are too.
    let values = yaml(&fs::read_to_string(shipped("chart/values.yaml")).unwrap());
    let pass = ["startupProbe", "livenessProbe", "securityContext", "resources"];
    let mut container = serde_json::json!({ "name": "skill" });
    for field in pass {
        container[field] = values[field].clone();
    }
    let container: Container = typed(&container);
    assert!(container.startup_probe.unwrap().exec.is_none(), "the template says how the server is asked");
    assert_eq!(container.security_context.unwrap().run_as_non_root, Some(true));
}

/// The recipes of the images, instruction by instruction.
fn recipe(path: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(shipped(path)).unwrap().replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(word, rest)| (word.to_owned(), rest.to_owned())).collect()
}

fn last<'a>(recipe: &'a [(String, String)], word: &str) -> Option<&'a str> {
    recipe.iter().rev().find(|(known, _)| known == word).map(|(_, rest)| rest.as_str())
}

#[test]
fn the_images_are_not_root_and_hold_what_their_manifests_allow() {
    let base = recipe("recipe/Containerfile");
    let stage = base.iter().rposition(|(word, _)| word == "FROM").unwrap();
    assert_eq!(last(&base[stage..], "USER"), Some("65532:65532"));
    assert_eq!(last(&base[stage..], "ENTRYPOINT"), Some(r#"["/usr/bin/charly-skill"]"#), "as the probes say");
    assert_eq!(last(&base[stage..], "HEALTHCHECK"), Some(r#"CMD ["/usr/bin/charly-skill", "--probe"]"#));
    let command: Vec<String> = serde_json::from_str(last(&base[stage..], "CMD").unwrap()).unwrap();
    check_arguments(&command);
    assert!(!base[stage..].iter().any(|(_, rest)| rest.contains("TOKEN")), "no credential is part of an image");
    for name in ["gh", "yt-dlp"] {
        let image = recipe(&format!("recipe/{name}/Containerfile"));
        assert_eq!(image[0], ("FROM".into(), "charly-skill".into()), "what the base's own recipe says to call it");
        assert_eq!(last(&image, "USER"), Some("65532:65532"), "{name}: the last word on the user");
        let install = last(&image, "RUN").unwrap();
        assert!(install.contains(&format!("install --yes --no-install-recommends {name} ")), "{install}");
        assert!(install.ends_with(&format!("ln /usr/bin/{name} /usr/local/bin/{name}")), "{install}");
        let manifest = format!("{name}.yml /etc/charly-skill/manifests/{name}.yml");
        assert_eq!(last(&image, "COPY"), Some(manifest.as_str()));
        assert!(shipped(&format!("recipe/{name}/{name}.yml")).exists());
        assert_eq!((last(&image, "ENTRYPOINT"), last(&image, "CMD")), (None, None), "the base's");
    }
}

#[test]
fn the_manifests_of_the_examples_allow_what_they_say() {
    let manifest = |name: &str| fs::read_to_string(shipped(&format!("recipe/{name}/{name}.yml"))).unwrap();
    let server = Server::builder()
        .env("GH_TOKEN", "ghp_secret")
        .script("gh", "echo \"$@\"")
        .script("yt-dlp", "echo \"$@\"")
        .manifest("gh", &manifest("gh"))
        .manifest("yt-dlp", &manifest("yt-dlp"))
        .flags(&["--require-manifest"])
        .start();
    for (skill, line, status) in [
        ("gh", "issue list --repo cli/cli --json number,title --limit=5", 200),
        ("gh", "pr view 12 -R cli/cli --comments", 200),
        ("gh", "release list --repo cli/cli", 200),
        ("gh", "auth token", 403),
        ("gh", "api /user", 403),
        ("gh", "issue create --repo cli/cli", 403),
        ("gh", "issue list --repo cli/cli --web", 403),
        ("gh", "issue view ../../etc/passwd", 403),
        ("gh", "extension exec x", 403),
        ("gh", "", 403),
        ("yt-dlp", "--dump-json https://example.com/watch?v=1", 200),
        ("yt-dlp", "--version", 200),
        ("yt-dlp", "--exec id https://example.com/", 403),
        ("yt-dlp", "--dump-json file:///etc/passwd", 403),
        ("yt-dlp", "--dump-json --config-locations", 403),
        ("yt-dlp", "https://example.com/", 403),
    ] {
        let args: Vec<&str> = line.split_whitespace().collect();
        let answer = server.run(skill, &serde_json::json!({ "args": args }).to_string());
        assert_eq!(answer.status, status, "{skill} {line}: {}", answer.text());
    }
}
