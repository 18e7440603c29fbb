//! What candies place, and who sees it: services, shells, capabilities, links, downloads, files that somebody edits.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::kit::{FIXTURES, Result, World};

#[test]
fn services_follow_their_candy() -> Result {
    let Some(mut world) = World::new("services")? else { return Ok(()) };
    world.guest.reboot()?; // Some units run at the first boot alone.
    world.remember()?;
    let pids = || {
        world.ok(
            "deploy",
            "export XDG_RUNTIME_DIR=/run/user/$(id -u)
             systemctl show --property MainPID --value charly-ticker-tick.service
             systemctl --user show --property MainPID --value charly-ticker-tock.service",
        )
    };
    let words = || {
        world.ok(
            "root",
            "for process in $(pgrep --exact sleep); do
                tr '\\0' '\\n' </proc/$process/environ | grep -E '^(WORD|WHERE)=' | sort | paste -sd' '
             done | sort",
        )
    };
    world.json("deploy", "bundle add local ticker -y").exits(0);
    world.json("deploy", "check local").exits(0);
    assert_eq!(words(), "WHERE=/home/deploy/here WORD=one\nWORD=one\n");
    assert_eq!(world.ok("root", "ls /var/lib/systemd/linger"), "deploy\n");
    let first = pids();
    assert_eq!(world.json("deploy", "bundle add local -y").exits(0).changed(), 0);
    assert_eq!(pids(), first, "nothing changed, and nothing was restarted");

    assert_eq!(world.json("deploy", "-C later bundle add local ticker -y").exits(0).changed(), 2);
    assert_eq!(words(), "WHERE=/home/deploy/here WORD=two\nWORD=two\n");

    world.guest.reboot()?;
    world.json("deploy", "-C later check local").exits(0);

    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.run("root", "pgrep --exact sleep").stdout, "");
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn shells_read_what_is_written_for_them() -> Result {
    // fish makes folders for itself when it starts.
    let Some(world) = World::prepared("shells", "su - fishy -c 'fish -ic true'")? else { return Ok(()) };
    for (user, shell) in [("deploy", "bash"), ("deploy", "zsh"), ("fishy", "fish")] {
        if user == "fishy" || shell == "bash" {
            world.json(user, "bundle add local shells -y").exits(0);
        }
        let said = world.ok(user, &format!("{shell} -ic e2e_said 2>/dev/null"));
        assert_eq!(said, format!("{shell} says so\n"));
    }
    for (user, shell) in [("deploy", "bash"), ("fishy", "fish")] {
        let seen = world.ok(user, &format!("{shell} -ic 'echo $E2E_WORD; echo $E2E_HOME; echo $PATH' 2>/dev/null"));
        let lines: Vec<_> = seen.lines().collect();
        assert_eq!(lines[..2], ["two words", &format!("/home/{user}/e2e")], "{shell}");
        assert!(lines[2].ends_with(&format!("/home/{user}/e2e/bin")), "{shell}: {seen}");
    }
    for user in ["deploy", "fishy"] {
        world.json(user, "bundle del local -y").exits(0);
    }
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn capabilities_links_and_trees_are_placed_and_put_back() -> Result {
    let Some(world) = World::prepared("capable", "setfattr -n user.e2e -v kept /usr/bin/chage")? else { return Ok(()) };
    world.json("deploy", "bundle add local capable -y").exits(0);
    assert_eq!(world.ok("deploy", "e2e-program && cat '/opt/capable/tree/share/a file'"), "a program\nwith a blank\n");
    let capabilities = "getfattr --absolute-names -n security.capability -e hex /opt/capable/program /usr/bin/chage";
    let seen = world.ok("root", &format!("{capabilities} | grep ="));
    assert_eq!(
        seen,
        "security.capability=0x0100000200040000000000000000000000000000\n\
         security.capability=0x0100000200200000000000000000000000000000\n"
    );
    let why = world.ok("deploy", "charly why /usr/local/bin/e2e-program");
    assert!(why.contains("local/capable"), "{why}");
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_download_is_what_its_digest_says_or_is_not_placed() -> Result {
    let Some(world) = World::new("fetched")? else { return Ok(()) };
    let server = TcpListener::bind("0.0.0.0:0").unwrap();
    let url = format!("http://10.231.0.1:{}/file", server.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nfetched\n");
        }
    });
    let right = world.ok("root", "printf 'fetched\\n' | sha256sum")[..64].to_owned();
    let wrong = "0".repeat(64);
    for (digest, code) in [(&wrong, 3), (&right, 0)] {
        world.ok(
            "deploy",
            &format!(
                "mkdir -p fetched && cat >fetched/charly.yml <<'END'
candy:
  name: fetched
  version: 2026.324.0000
  description: A file that is downloaded
  plan:
    - {{run: fetch it, download: \"{url}\", sha256: {digest}, to: /opt/fetched/file, mode: \"0600\"}}
END"
            ),
        );
        let said = world.json("deploy", "bundle add local ~/fetched -y").exits(code);
        if code != 0 {
            let error = said.error();
            assert!(error.contains(&wrong) && error.contains(&right), "{error}");
            assert_eq!(world.run("root", "ls /opt/fetched").status, 2);
        }
    }
    assert_eq!(world.ok("root", "cd /opt/fetched && cat file && stat -c '%a %U' file"), "fetched\n600 root\n");
    world.json("deploy", "bundle del local -y").exits(0);
    world.ok("root", "rm -r ~deploy/fetched");
    assert_eq!(world.traces(), "");
    Ok(())
}

#[test]
fn a_file_that_was_edited_is_its_editors() -> Result {
    let Some(world) = World::new("edited")? else { return Ok(()) };
    world.json("deploy", "bundle add local files -y").exits(0);
    world.ok("root", "echo mine >/etc/e2e/note; echo mine >~deploy/e2e/note; echo mine >/etc/motd");
    let drift = world.code("deploy", 1, "charly drift local").stdout;
    for path in ["/etc/e2e/note", "/home/deploy/e2e/note", "/etc/motd"] {
        assert!(drift.contains(path), "{drift}");
    }
    // What only root may look at is neither drifted nor as it was.
    world.ok("root", "chmod 700 /etc/e2e");
    let blind = world.code("deploy", 1, "charly drift local");
    assert!(!blind.stdout.contains("/etc/e2e/note") && blind.stdout.contains("/etc/motd"), "{}", blind.stdout);
    assert!(blind.stderr.contains("1 more that only root may look at"), "{}", blind.stderr);
    world.ok("root", "chmod 755 /etc/e2e");
    let done = world.json("deploy", "bundle del local -y").exits(0);
    let kept = done.result()["run"]["kept"].as_array().unwrap();
    let edited: Vec<_> = kept.iter().filter(|kept| kept["reason"] == "it was edited since").collect();
    assert_eq!(edited.len(), 3, "{done}");
    assert_eq!(world.ok("root", "cat /etc/e2e/note ~deploy/e2e/note /etc/motd"), "mine\nmine\nmine\n");
    world.ok("root", "rm -r /etc/e2e ~deploy/e2e");
    let traces = world.traces();
    assert!(traces.starts_with("changed file /etc/motd: ") && traces.lines().count() == 1, "{traces}");

    // An add places what is declared over the edit, and keeps the edited copy beside the ledger.
    world.json("deploy", "bundle add local files -y").exits(0);
    world.ok("root", "echo mine >/etc/e2e/note");
    let plan = world.ok("deploy", &format!("cd {FIXTURES} && charly bundle plan local"));
    assert!(plan.contains("/etc/e2e/note") && plan.contains("1 to change; 2 unchanged"), "{plan}");
    world.json("deploy", "bundle add local -y").exits(0);
    assert_eq!(
        world.ok("root", "cat /etc/e2e/note; cat /var/lib/opencharly/installed/edited/*"),
        "as declared\nmine\n"
    );
    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.traces(), traces);
    Ok(())
}

#[test]
fn what_two_deploys_share_stays_until_the_last_goes() -> Result {
    let Some(world) = World::new("shared")? else { return Ok(()) };
    world.json("deploy", "bundle add local one -y").exits(0);
    world.json("deploy", "bundle add other another -y").exits(0);
    assert_eq!(world.ok("root", "cd /opt/shared && cat * && tree --version >/dev/null"), "another\nboth\none\n");

    let error = world.json("deploy", "bundle add local disagreeing -y").exits(5).error();
    assert!(error.contains("`/opt/shared/common` is claimed by `other/another`"), "{error}");

    world.json("deploy", "bundle del local -y").exits(0);
    assert_eq!(world.ok("root", "cd /opt/shared && cat * && tree --version >/dev/null"), "another\nboth\n");
    world.json("deploy", "bundle del other -y").exits(0);
    assert_eq!(world.traces(), "");
    assert_eq!(world.run("root", &format!("test -d {FIXTURES}")).status, 0);
    Ok(())
}
