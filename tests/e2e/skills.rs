//! The skill server with real tools: Debian's, installed as the recipes of the images say, under the shipped manifests.

use std::fs;
use std::path::Path;

use crate::kit::{Result, World};

#[test]
fn debians_tools_are_skills() -> Result {
    let Some(world) = World::new("skills")? else { return Ok(()) };
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("sidecars/skill/recipe");
    world.ok("root", "apt-get update -qq && apt-get install -y -qq --no-install-recommends curl >/dev/null");
    for name in ["gh", "yt-dlp"] {
        let recipe = fs::read_to_string(recipes.join(name).join("Containerfile")).unwrap();
        let (_, install) = recipe.split_once("\nRUN ").unwrap();
        let (install, _) = install.split_once("\nCOPY ").unwrap();
        world.ok("root", &format!("export DEBIAN_FRONTEND=noninteractive; ( {install} ) >/dev/null"));
        let manifest = recipes.join(name).join(format!("{name}.yml"));
        world.ok("root", "mkdir -p /etc/charly-skill/manifests");
        world.guest.put("root", &manifest, &format!("/etc/charly-skill/manifests/{name}.yml"), 0o644)?;
    }
    // As the base image starts it, and as nobody.
    world.ok(
        "root",
        "systemd-run --quiet --unit=skills --setenv=SKILL_TOKEN=0123456789abcdef \
             --setenv=GH_TOKEN=ghp_secret setpriv --reuid=65532 --regid=65532 --clear-groups charly skill serve \
             --manifests /etc/charly-skill/manifests --require-manifest --sandbox require",
    );
    world.await_in_guest("charly skill serve --probe");
    let ask = |skill: &str, args: &str| {
        let body = format!(r#"{{"args":[{args}],"timeout":30}}"#);
        world.ok(
            "root",
            &format!(
                "curl -s -w ' %{{http_code}}' -H 'X-Skill-Token: 0123456789abcdef' -H 'Content-Type: application/json' \
                     -d '{body}' http://127.0.0.1:8080/skill/{skill}"
            ),
        )
    };
    for (skill, args, begins, ends) in [
        ("gh", r#""--version""#, r#"{"status":"ok","stdout":"gh version "#, " 200"),
        ("yt-dlp", r#""--version""#, r#"{"status":"ok","stdout":"20"#, " 200"),
        ("gh", r#""auth","token""#, r#"{"error":"`gh` is not allowed these arguments""#, " 403"),
        ("yt-dlp", r#""--exec","id","https://example.com/""#, r#"{"error":"#, " 403"),
        ("charly", r#""bundle","list""#, r#"{"error":"no skill named `charly`""#, " 404"),
    ] {
        let answer = ask(skill, args);
        assert!(answer.starts_with(begins) && answer.ends_with(ends), "{skill} {args}: {answer}");
    }
    // The tool finds its token, and the world says no to it: the run itself is allowed and ends as the tool ends.
    let answer = ask("gh", r#""issue","list","--repo","cli/cli","--limit=1""#);
    assert!(answer.contains(r#""status":"error""#) && !answer.contains("ghp_secret"), "{answer}");
    assert!(!answer.contains("gh auth login"), "the token was there: {answer}");
    assert_eq!(world.ok("root", "ps -C charly -o uid= | sort -u").trim(), "65532");
    world.ok("root", "systemctl stop skills && ! pgrep -u 65532");
    Ok(())
}
